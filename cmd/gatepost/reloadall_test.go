package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/proxy/config"
)

// freeAddress is one of this machine's that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

const taken = "the new configuration is in force"

func TestReloadAddsAndRemovesAddresses(t *testing.T) {
	first, second, socket := freeAddress(t), freeAddress(t), filepath.Join(t.TempDir(), "milter.sock")
	listen := func(addresses ...string) string {
		text := settings + "confine: off\nrules: []\nlisten:\n"
		for _, a := range addresses {
			text += "  - {address: '" + a + "'}\n"
		}
		return text
	}
	s := startServeWith(t, listen(first))
	old := s.dial()

	// One that somebody else has: nothing is changed, neither the other address nor the milter.
	s.configure(listen(first, second, s.backend.Address()) + "milter:\n  - {address: 'unix:" + socket + "'}\n")
	line := s.reload("is refused; the old one stays in force")
	for _, want := range []string{"listen[2].address", s.file + ":", "address already in use"} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
	for network, address := range map[string]string{"tcp": second, "unix": socket} {
		if conn, err := net.Dial(network, address); err == nil {
			conn.Close()
			t.Errorf("%s is listened on", address)
		}
	}

	s.configure(listen(second) + "milter:\n  - {address: 'unix:" + socket + "'}\n")
	s.reload(taken)
	if conn, err := net.Dial("tcp", first); err == nil {
		conn.Close()
		t.Error("the old address is listened on")
	}
	if conn, err := net.Dial("unix", socket); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
	s.address = second
	s.recipient("bob@example.net", "250")
	old.say("MAIL FROM:<bob@example.net>", "250")
	old.say("RCPT TO:<alice@example.org>", "250")
	if output, status := s.command("upgrade"); status != 0 { // what was added goes over
		t.Error(output)
	}
	s.recipient("bob@example.net", "250")
	old.say("QUIT", "221")
}

func TestReloadChangesTheLog(t *testing.T) {
	s := startServe(t, "rules: []\n")
	s.configure(settings + "rules: []\nlisten:\n  - {address: '127.0.0.1:0'}\nlog: {format: json, level: debug}\n")
	if line := s.reload(taken); !strings.HasPrefix(line, "{") {
		t.Errorf("not JSON: %s", line)
	}
	s.dial().say("QUIT", "221")
	s.awaitLog(`"level":"DEBUG"`)
}

// nameServer counts who asks; nothing has a name there.
func nameServer(t *testing.T, asked *atomic.Int64) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			asked.Add(1)
			b[2], b[3] = b[2]|0x80, b[3]&0xf0|3 // RFC 1035, 4.1.1: QR, NXDOMAIN
			conn.WriteTo(b[:n], from)
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return conn.LocalAddr().String()
}

// A session asks those that it has begun with; later ones ask the others.
func TestReloadChangesTheResolver(t *testing.T) {
	var before, after atomic.Int64
	text := func(server string) string {
		return settingsWithout("resolver") + "confine: off\nresolver: {servers: ['" + server + "'], timeout: 400ms, attempt: 200ms}\nlisten:\n  - {address: '127.0.0.1:0'}\n" +
			"rules:\n  - {name: spf, when: 'spf.result == \"fail\"', then: reject, at: rcpt}\n"
	}
	s := startServeWith(t, text(nameServer(t, &before)))
	old := s.dial()
	s.configure(text(nameServer(t, &after)))
	s.reload(taken)
	begun := before.Load()
	s.recipient("bob@new.example.net", "250")
	if after.Load() == 0 || before.Load() != begun {
		t.Errorf("a new session: %d questions to the new server, %d to the old one", after.Load(), before.Load()-begun)
	}
	old.say("MAIL FROM:<bob@old.example.net>", "250")
	old.say("RCPT TO:<alice@example.org>", "250")
	if before.Load() == begun {
		t.Error("the old session does not ask its own server any more")
	}
	old.say("QUIT", "221")
	s.signal(15)
	if status := s.exit(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

func TestReloadChangesTheAdminPages(t *testing.T) {
	command := exec.Command("gatepost", "admin", "password")
	command.Stdin = strings.NewReader("correct horse\n")
	hash, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	s := startServe(t, "confine: off\nrules: []\nadmin: 127.0.0.1:0\n")
	certificate(t, s.folder, "localhost")
	apply := func(admin, more, want string) string {
		t.Helper()
		s.configure(strings.Replace(settingsWithout("admin"), "path: state", "path: state, max_entries: 2000, flush: 100ms", 1) + "confine: off\nrules: []\nlisten:\n  - {address: '127.0.0.1:0'}\nadmin: " + admin + "\n" + more)
		line := s.reload(want)
		s.log.forgetNothing()
		return line
	}
	secured := "{address: '127.0.0.1:0', certificate: cert.pem, key: key.pem, password: '" + strings.TrimSpace(string(hash)) + "'}"
	apply(secured, "quarantine: {size: 3MiB, keep: 2d}\njournal: {addresses: cut, keep: 2d, size: 2MiB}\n", taken)
	if status, _ := s.page("https", "/metrics", ""); status != 401 {
		t.Errorf("without the password: %d", status)
	}
	if status, text := s.page("https", "/metrics", "correct horse"); status != 200 || !strings.Contains(text, "gatepost_quarantine_limit_bytes 3.145728e+06\n") {
		t.Errorf("%d: %s", status, regexp.MustCompile(`gatepost_quarantine_limit.*`).FindString(text))
	}
	write(t, filepath.Join(s.folder, "cert.pem"), "half of it")
	if line := apply(secured, "", "is refused; the old one stays in force"); !strings.Contains(line, "cert.pem") {
		t.Errorf("the file is not named: %s", line)
	}
	if status, _ := s.page("https", "/health", ""); status != 200 {
		t.Errorf("with a broken certificate on disk: %d", status)
	}

	line := apply("'"+s.backend.Address()+"'", "", "is refused; the old one stays in force")
	if !strings.Contains(line, "admin.address") || !strings.Contains(line, s.file+":") || !strings.Contains(line, "address already in use") {
		t.Errorf("an address that somebody else has: %s", line)
	}
	before := s.awaitLog("the admin pages are served")
	address := freeAddress(t)
	apply("'"+address+"'", "", taken)
	s.awaitLog("address=" + address)
	if conn, err := net.Dial("tcp", address); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
	apply("off", "", taken)
	for _, gone := range []string{regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(before)[1], address} {
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			conn, err := net.Dial("tcp", gone)
			if err != nil {
				break
			}
			if conn.Close(); time.Now().After(deadline) {
				t.Fatalf("%s is still served", gone)
			}
		}
	}
}

// Addresses of mail are hidden from one entry of the journal to the next.
func TestReloadChangesTheJournal(t *testing.T) {
	s := startServe(t, "journal: {path: journal}\n"+blocked("mallory@example.net"))
	s.recipient("mallory@example.net", "550 5.7.1 not you")
	refusals := func() (text string, lines []string) {
		text, _ = s.command("journal", "--json", "--where", `verdict == "reject"`)
		return text, strings.Split(strings.TrimSpace(text), "\n")
	}
	// What waits to be written is written as the reload wants it.
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if text, _ := refusals(); strings.Contains(text, "mallory@example.net") {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%s", text)
		}
	}
	s.configure(settings + "listen:\n  - {address: '127.0.0.1:0'}\njournal: {path: journal, addresses: cut, size: 8MiB, queue: 2MiB}\n" + blocked("mallory@example.net"))
	s.reload(taken)
	s.recipient("mallory@example.net", "550 5.7.1 not you")
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		text, lines := refusals()
		if len(lines) == 2 && strings.Count(text, "mallory@example.net") > 0 {
			if strings.Contains(lines[0], `"from":"mallory@`) == strings.Contains(lines[1], `"from":"mallory@`) {
				t.Errorf("both are hidden, or none:\n%s", text)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s", text)
		}
	}
}

// TestTheTableOfReloads holds the table in docs/upgrade.md against the code and against all the keys there are.
func TestTheTableOfReloads(t *testing.T) {
	text, err := os.ReadFile("../../docs/upgrade.md")
	if err != nil {
		t.Fatal(err)
	}
	wants := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]+`) \\| (reload|upgrade|restart) \\|").FindAllStringSubmatch(string(text), -1) {
		for _, key := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			wants[key[1]] = row[2]
		}
	}
	fixed := map[string]bool{}
	for _, f := range fixedKeys {
		if fixed[f.key] = true; wants[f.key] != "upgrade" {
			t.Errorf("%s is said to want %q, and no reload takes it", f.key, wants[f.key])
		}
	}
	var check func(of reflect.Type, prefix string)
	check = func(of reflect.Type, prefix string) {
		for i := range of.NumField() {
			name, _, _ := strings.Cut(of.Field(i).Tag.Get("yaml"), ",")
			if name == "" || name == "-" {
				continue
			}
			key := prefix + name
			switch want := wants[key]; {
			case want == "" && prefix == "" && of.Field(i).Type.Kind() == reflect.Struct:
				check(of.Field(i).Type, key+".")
			case want == "":
				t.Errorf("%s is not in the table", key)
			case want == "upgrade" && !fixed[key]:
				t.Errorf("%s is said to want an upgrade, and a reload takes it", key)
			}
		}
	}
	check(reflect.TypeFor[config.Config](), "")
	for _, key := range []string{"filters", "rules"} {
		if wants[key] != "reload" {
			t.Errorf("%s: %q", key, wants[key])
		}
	}
}
