package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestReloadAppliesToNewSessions(t *testing.T) {
	s := startServe(t, blocked("mallory@example.net"))
	old := s.dial()
	s.recipient("mallory@example.net", "550 5.7.1 not you")
	s.recipient("trudy@example.net", "250")

	s.configure(settings + "listen:\n  - {address: '127.0.0.1:0'}\n" + blocked("trudy@example.net"))
	s.reload("the new configuration is in force")
	s.recipient("mallory@example.net", "250")
	s.recipient("trudy@example.net", "550 5.7.1 not you")
	old.say("MAIL FROM:<trudy@example.net>", "250") // on the rules that it began with
	old.say("RCPT TO:<alice@example.org>", "250")
}

func TestABadFileIsRefusedAndTheOldStaysInForce(t *testing.T) {
	s := startServe(t, blocked("mallory@example.net"))
	listen := "listen:\n  - {address: '127.0.0.1:0'}\n"
	for _, bad := range []struct{ name, text, problem string }{
		{"a mistake in a rule", settings + listen + strings.Replace(blocked("x"), "mail.address", "mail.adress", 1), `there is no fact mail.adress, did you mean mail.address?`},
		{"a mistake in a section", settings + listen + "limits: {errors: none}\n" + blocked("x"), `limits.errors: \"none\" is not a whole number`},
		{"no YAML", "rules: [", "gatepost.yaml:1:"},
		{"a certificate that is missing", settings + "listen:\n  - {address: '127.0.0.1:0', certificate: missing.pem}\n" + blocked("x"), "missing.pem: no such file or directory"},
		{"another backend and a certificate that is missing", strings.Replace(settings, `"BACKEND"`, "127.0.0.1:9", 1) + "listen:\n  - {address: '127.0.0.1:0', certificate: missing.pem}\n" + blocked("x"), "missing.pem: no such file or directory"},
	} {
		t.Run(bad.name, func(t *testing.T) {
			s.configure(bad.text)
			s.reload("is refused; the old one stays in force")
			if !strings.Contains(s.log.String(), bad.problem) {
				t.Errorf("no %s in the log:\n%s", bad.problem, s.log.String())
			}
			s.recipient("mallory@example.net", "550 5.7.1 not you")
		})
	}
	if err := os.Remove(s.file); err != nil {
		t.Fatal(err)
	}
	s.reload("is refused; the old one stays in force")
	s.recipient("mallory@example.net", "550 5.7.1 not you")

	s.configure(settings + listen + "rules: []\n")
	s.reload("the new configuration is in force")
	s.recipient("mallory@example.net", "250")
	s.signal(syscall.SIGTERM)
	if status := s.exit(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

func TestReloadReadsListFilesAgain(t *testing.T) {
	s := startServe(t, "rules:\n  - {name: listed, when: 'in_list(mail.address, \"senders\")', then: reject}\n")
	s.recipient("mallory@example.net", "250")
	list := filepath.Join(s.folder, "lists", "senders")
	write(t, list, "mallory@example.net # often\n")
	s.reload("the new configuration is in force")
	s.recipient("mallory@example.net", "550")
	write(t, list, "two words\n")
	s.reload("is refused; the old one stays in force")
	if want := "at=" + list + ":1:1"; !strings.Contains(s.log.String(), want) {
		t.Errorf("no %s in the log:\n%s", want, s.log.String())
	}
	s.recipient("mallory@example.net", "550")
}

func TestReloadReadsCertificatesAgain(t *testing.T) {
	folder := t.TempDir()
	certificate(t, folder, "one.example.org")
	s := startServe(t, fmt.Sprintf("listen: {address: '127.0.0.1:0', certificate: %s/cert.pem, key: %s/key.pem}\nrules: []\n", folder, folder))
	name := func() string {
		c := s.dial()
		defer c.conn.Close()
		c.say("STARTTLS", "220")
		over := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
		if err := over.Handshake(); err != nil {
			t.Fatal(err)
		}
		return over.ConnectionState().PeerCertificates[0].DNSNames[0]
	}
	if got := name(); got != "one.example.org" {
		t.Errorf("at first: %s", got)
	}
	certificate(t, folder, "two.example.org")
	s.reload("the new configuration is in force")
	if got := name(); got != "two.example.org" {
		t.Errorf("after the reload: %s", got)
	}
	write(t, filepath.Join(folder, "cert.pem"), "none")
	s.reload("is refused; the old one stays in force")
	if got := name(); got != "two.example.org" {
		t.Errorf("after the refused reload: %s", got)
	}
}

func TestReloadSaysWhatNeedsAnUpgrade(t *testing.T) {
	s := startServe(t, "rules: []\nconfine: off\n")
	for range 2 { // it is still so after the first time
		s.configure(strings.Replace(settings, "path: state", "path: other", 1) + "listen:\n  - {address: '127.0.0.1:0'}\njournal: {path: elsewhere}\nrules: []\nconfine: off\n")
		line := s.reload("use gatepost upgrade")
		for _, want := range []string{"store.path (" + s.file + ":4:15: ", "journal.path (" + s.file + ":", "quarantine.path (" + s.file} {
			if !strings.Contains(line, want) {
				t.Errorf("no %s in %s", want, line)
			}
		}
	}
}

func TestSIGTERMLetsATransactionFinish(t *testing.T) {
	s := startServe(t, "rules: []\n")
	idle := s.dial()
	busy := s.dial()
	busy.say("MAIL FROM:<bob@example.net>", "250")
	busy.say("RCPT TO:<alice@example.org>", "250")
	busy.say("DATA", "354")
	s.signal(syscall.SIGTERM)
	s.awaitLog("ending: no new sessions")
	idle.expect("421 4.3.2")
	if conn, err := net.Dial("tcp", s.address); err == nil {
		conn.Close()
		t.Error("a new session was taken")
	}
	busy.say("Subject: last\r\n\r\nOne more.\r\n.", "250")
	if status := s.exit(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if got := s.backend.Messages(); len(got) != 1 || !strings.HasSuffix(string(got[0].Data), "One more.\r\n") {
		t.Errorf("the backend has %d messages", len(got))
	}
	s.awaitLog("msg=ended")
	if _, err := os.Stat(filepath.Join(s.folder, "state", "control.sock")); err == nil {
		t.Error("the control socket is still there")
	}
}

// serveFails runs serve with a configuration that cannot be served, and returns what it says.
func serveFails(t *testing.T, file string, status int) string {
	t.Helper()
	command := exec.Command("gatepost", "serve", "-c", file)
	output, err := command.CombinedOutput()
	if err == nil || command.ProcessState.ExitCode() != status {
		t.Errorf("%v, want exit status %d", err, status)
	}
	return string(output)
}

func TestServeSaysWhyItCannotStart(t *testing.T) {
	s := startServe(t, "rules: []\n")
	second := filepath.Join(s.folder, "second.yaml")
	base := strings.ReplaceAll(settings, "BACKEND", s.backend.Address()) + "rules: []\n"
	free := "listen:\n  - {address: '127.0.0.1:0'}\n"
	write(t, filepath.Join(s.folder, "a-file"), "")
	for _, c := range []struct {
		name, text, want string
		status           int
	}{
		{"the state has an owner", base + free, "another gatepost owns it: stop that one", 1},
		{"the port is taken", strings.Replace(base, "path: state", "path: second", 1) + "listen:\n  - {address: '" + s.address + "'}\n", "address already in use; another program listens there", 1},
		{"the state is a file", strings.Replace(base, "path: state", "path: a-file", 1) + free, "a-file: not a directory", 1},
		{"the state is below a file", strings.Replace(base, "path: state", "path: a-file/state", 1) + free, "a-file: not a directory", 1},
		{"the certificate is missing", strings.Replace(base, "path: state", "path: third", 1) + "listen:\n  - {address: '127.0.0.1:0', certificate: missing.pem}\n", "missing.pem: no such file", 1},
		{"the user is nobody's", strings.Replace(base, "path: state", "path: fourth", 1) + free + "user: no-such-user\n", "user no-such-user: ", noRestart},
		{"mistakes", "hostnam: mx\nrules:\n  - {name: a, when: spf.reslt, then: reject}\n", "there is no fact spf.reslt", noRestart},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(t, second, c.text)
			if got := serveFails(t, second, c.status); !strings.Contains(got, c.want) {
				t.Errorf("it says:\n%s\nwithout %q", got, c.want)
			}
		})
	}
	if got := serveFails(t, filepath.Join(s.folder, "missing.yaml"), noRestart); !strings.Contains(got, "missing.yaml: no such file or directory") {
		t.Errorf("without a file: %s", got)
	}
	s.recipient("bob@example.net", "250") // the first one is none the worse
}

func TestAnUnreadableStateFolder(t *testing.T) {
	if os.Getuid() == 0 {
		// Root reads everything: run as nobody.
		runAsNobody(t)
		return
	}
	folder := t.TempDir()
	write(t, filepath.Join(folder, "gatepost.yaml"), "domains: [example.org]\nbackend: 127.0.0.1:9\nrules: []\nstore: {path: locked/state}\nadmin: off\nlisten:\n  - {address: '127.0.0.1:0'}\n")
	if err := os.Mkdir(filepath.Join(folder, "locked"), 0); err != nil {
		t.Fatal(err)
	}
	if got := serveFails(t, filepath.Join(folder, "gatepost.yaml"), noRestart); !strings.Contains(got, "locked/state: permission denied") {
		t.Errorf("it says:\n%s", got)
	}
}

// runAsNobody runs the command in a folder that everybody may enter.
func runAsNobody(t *testing.T) {
	folder, err := os.MkdirTemp("", "gatepost-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	path, err := exec.LookPath("gatepost")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	binary, file := filepath.Join(folder, "gatepost"), filepath.Join(folder, "gatepost.yaml")
	write(t, file, "domains: [example.org]\nbackend: 127.0.0.1:9\nrules: []\nstore: {path: locked/state}\nadmin: off\nlisten:\n  - {address: '127.0.0.1:0'}\n")
	if err := os.WriteFile(binary, program, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{folder: 0o755, filepath.Join(folder, "locked"): 0o700} {
		os.Mkdir(name, mode)
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command(binary, "serve", "-c", file)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	output, err := command.CombinedOutput()
	if err == nil || !strings.Contains(string(output), "locked/state: permission denied") {
		t.Errorf("%v: %s", err, output)
	}
	bypass := exec.Command(binary, "bypass", "--off", "-c", file)
	bypass.SysProcAttr = command.SysProcAttr
	output, err = bypass.CombinedOutput()
	if err == nil || !strings.Contains(string(output), "permission denied: run this command as root") {
		t.Errorf("%v: %s", err, output)
	}
}
