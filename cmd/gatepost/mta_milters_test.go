//go:build mta

package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"gatepost/proxy/backend/backendtest"
)

//mta:packages opendkim opendmarc rspamd clamav-milter clamav-daemon spamass-milter spamassassin spamd perl

// A milter is a program of Debian's that Gatepost asks.
type milterProgram struct {
	name  string
	user  string // with its id
	after string
	start string            // shell, in the root; PORT is where it is to listen
	files map[string]string // likewise
	check func(t *testing.T, m *milterTest)
}

const (
	virus = "GATEPOST-VIRUS-TEST"
	// What rspamd takes for spam whatever the rest looks like.
	spam     = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
	junk     = "GATEPOST-JUNK-TEST"
	doubtful = "GATEPOST-DOUBTFUL-TEST"
)

// In the order of the chain.
var milterPrograms = []milterProgram{
	{
		name: "opendkim", user: "opendkim:120", start: "opendkim -f -x /etc/milters/opendkim.conf",
		files: map[string]string{"opendkim.conf": `Syslog no
Background no
Mode sv
Socket inet:PORT@127.0.0.1
Domain example.org
KeyFile /etc/milters/dkim.key
Selector s
RequireSafeKeys no
Canonicalization simple/simple
InternalHosts /etc/milters/internal
TestDNSData /etc/milters/dns
AuthservID mx.example.org
AlwaysAddARHeader yes
UserID opendkim
`, "internal": insider + "\n"},
		check: func(t *testing.T, m *milterTest) {
			for range 2 {
				passed := m.deliver(stranger, "a@example.com", m.signed("hello"))
				if !bytes.Contains(passed, []byte("dkim=pass")) || !bytes.Contains(passed, []byte("header.d=example.com")) {
					t.Errorf("verified: %q", passed)
				}
			}
			own := m.deliver(insider, "alice@example.org", "From: alice@example.org\r\nSubject:  two\r\n\tlines\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\n.hello\r\n")
			results, err := dkim.VerifyWithOptions(bytes.NewReader(own), &dkim.VerifyOptions{LookupTXT: m.lookup})
			if err != nil || len(results) != 1 || results[0].Err != nil || results[0].Domain != "example.org" {
				t.Errorf("signed: %v, %+v\n%s", err, results, own)
			}
		},
	},
	{
		name: "opendmarc", user: "opendmarc:121", after: "opendkim", start: "opendmarc -f -c /etc/milters/opendmarc.conf",
		files: map[string]string{"opendmarc.conf": `Syslog false
Background false
Socket inet:PORT@127.0.0.1
AuthservID mx.example.org
TrustedAuthservIDs mx.example.org
UserID opendmarc
`},
		check: func(t *testing.T, m *milterTest) {
			for range 2 {
				if got := m.deliver(stranger, "a@example.com", m.signed("hello")); !bytes.Contains(got, []byte("Authentication-Results: mx.example.org; dmarc=")) {
					t.Errorf("%q", got)
				}
			}
		},
	},
	{
		name: "rspamd", user: "_rspamd:123", start: "rspamd -f -i -c /etc/milters/rspamd.conf",
		// Without a short list of top-level domains it compiles a long one first, for half a minute.
		files: map[string]string{"tld": "com\norg\n", "rspamd.conf": `options { pidfile = "/tmp/rspamd.pid"; tempdir = "/tmp"; filters = ""; gtube_patterns = "all"; url_tld = "/etc/milters/tld"; disable_hyperscan = true; dns { nameserver = ["127.0.0.1:1"]; timeout = 1s; } }
actions { reject = 15; add_header = 6; }
logging { type = "console"; level = "warning"; }
worker "rspamd_proxy" {
	bind_socket = "127.0.0.1:PORT";
	milter = yes;
	count = 1;
	upstream "local" { default = yes; self_scan = yes; }
}
`},
		check: func(t *testing.T, m *milterTest) {
			m.refuse(spam, "554 5.7.1 Gtube pattern")
			m.deliver(stranger, "a@example.com", m.signed("hello"))
		},
	},
	{
		name: "clamav", user: "clamav:122", start: "rm -f /run/clamd.sock; clamd -c /etc/milters/clamd.conf & while ! [ -S /run/clamd.sock ]; do sleep 0.1; done; clamav-milter -c /etc/milters/clamav-milter.conf",
		files: map[string]string{"db/test.ndb": "Gatepost-Test:0:*:" + hex.EncodeToString([]byte(virus)) + "\n",
			"clamd.conf":         "LocalSocket /run/clamd.sock\nForeground yes\nUser root\nDatabaseDirectory /etc/milters/db\n",
			"clamav-milter.conf": "MilterSocket inet:PORT@127.0.0.1\nClamdSocket unix:/run/clamd.sock\nForeground yes\nUser root\nOnInfected Reject\nRejectMsg Found %v\nAddHeader Add\n"},
		check: func(t *testing.T, m *milterTest) {
			m.refuse(virus, "550 5.7.1 Found Gatepost-Test.UNOFFICIAL")
			if got := m.deliver(stranger, "a@example.com", m.signed("hello")); !bytes.Contains(got, []byte("X-Virus-Status: Clean")) {
				t.Errorf("%q", got)
			}
		},
	},
	{
		// Local tests only: spamd loads the two rules below and asks nobody.
		name: "spamassassin", user: "debian-spamd:124",
		start: "rm -f /run/spamd.sock; spamd -L -x -u nobody -m 1 --min-children=1 -s stderr --socketpath=/run/spamd.sock --socketmode=0666 -C /etc/milters/spamassassin --siteconfigpath=/etc/milters/spamassassin & " +
			"while ! [ -S /run/spamd.sock ]; do sleep 0.1; done; spamass-milter -p inet:PORT@127.0.0.1 -r 15 -- -U /run/spamd.sock",
		files: map[string]string{
			"spamassassin/init.pre": "loadplugin Mail::SpamAssassin::Plugin::Check\n",
			"spamassassin/local.cf": "report_safe 0\nrequired_score 5\nuse_bayes 0\nclear_headers\nadd_header spam Flag _YESNOCAPS_\nadd_header all Status _YESNO_, score=_SCORE_ tests=_TESTS_\nbody GATEPOST_BAD /" + junk + "/\nscore GATEPOST_BAD 20\n" +
				"body GATEPOST_DOUBTFUL /" + doubtful + "/\nscore GATEPOST_DOUBTFUL 7\n",
		},
		check: func(t *testing.T, m *milterTest) {
			m.refuse(junk, "550 5.7.1 Blocked by SpamAssassin")
			if got := m.deliver(stranger, "a@example.com", m.signed("hello")); !bytes.Contains(got, []byte("X-Spam-Status: No,")) {
				t.Errorf("%q", got)
			}
			if got := m.deliver(stranger, "a@example.com", m.signed(doubtful)); !bytes.Contains(got, []byte("X-Spam-Flag: YES")) || !bytes.Contains(got, []byte("GATEPOST_DOUBTFUL")) {
				t.Errorf("%q", got)
			}
		},
	},
}

// insider is a client whose mail opendkim signs.
const insider = "198.51.100.200"

// Each of Debian's milters alone, then all in one chain: two messages and more in one connection of the client's.
func TestMTAMilters(t *testing.T) {
	prepareRoot(t)
	root := mtaRoot(t)
	key, dns := milterKey(t, root)
	ports := map[string]string{}
	for i := range milterPrograms {
		p := &milterPrograms[i]
		name, id, _ := strings.Cut(p.user, ":")
		appendTo(t, filepath.Join(root, "etc/passwd"), name+":x:"+id+":"+id+"::/nonexistent:/bin/false\n")
		appendTo(t, filepath.Join(root, "etc/group"), name+":x:"+id+":\n")
		ports[p.name] = startMilter(t, root, p)
	}
	run := func(name string, programs []milterProgram) {
		t.Run(name, func(t *testing.T) {
			m := startMilterTest(t, programs, ports, key, dns, "session")
			for _, p := range programs {
				if !t.Run(p.name, func(t *testing.T) { m.t = t; p.check(t, m) }) {
					return
				}
			}
			fmt.Printf("mta milter %s: passed\n", name)
		})
	}
	for _, p := range milterPrograms {
		p.after = ""
		run(p.name, []milterProgram{p})
	}
	run("chain", milterPrograms)
	for i := range milterPrograms {
		p := &milterPrograms[i]
		t.Run(p.name+" for one client after the other", func(t *testing.T) {
			alone := *p
			alone.after = ""
			m := startMilterTest(t, []milterProgram{alone}, ports, key, dns, "always")
			for range 3 {
				m.deliver(stranger, "a@example.com", m.signed("hello"))
				m.leave(stranger)
			}
			goesOn := "goes on"
			if strings.Contains(m.log.String(), "does not go on with another client") {
				goesOn = "does not go on, and gets new connections"
			}
			fmt.Printf("mta milter %s with another client over its connection: %s, passed\n", p.name, goesOn)
		})
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(content)+text)
}

// milterKey signs for example.com and example.org alike.
func milterKey(t *testing.T, root string) (*rsa.PrivateKey, string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	record := "v=DKIM1; p=" + base64.StdEncoding.EncodeToString(public)
	folder := filepath.Join(root, "etc/milters")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, "dns"), "s._domainkey.example.com "+record+"\ns._domainkey.example.org "+record+"\n")
	secret := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	write(t, filepath.Join(folder, "dkim.key"), string(secret))
	return key, record
}

func startMilter(t *testing.T, root string, p *milterProgram) (port string) {
	t.Helper()
	address := machine.freePort(t)
	_, port, _ = net.SplitHostPort(address)
	for name, content := range p.files {
		path := filepath.Join(root, "etc/milters", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, path, strings.ReplaceAll(content, "PORT", port))
	}
	s := &site{mta: &mta{name: p.name}, root: root, front: machine, back: machine, address: address}
	s.serve(t, strings.ReplaceAll(p.start, "PORT", port)+" &")
	s.awaitListener(t)
	return port
}

// milterTest is a Gatepost with milters, a backend that takes everything, and a client that stays connected.
type milterTest struct {
	t       *testing.T
	public  string
	backend *backendtest.Server
	key     *rsa.PrivateKey
	record  string
	clients map[string]*mtaClient // by address
	log     *lockedBuffer
}

// lockedBuffer is what a process prints, read while it does.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startMilterTest(t *testing.T, programs []milterProgram, ports map[string]string, key *rsa.PrivateKey, record, reuse string) *milterTest {
	t.Helper()
	server, err := backendtest.Start(backendtest.Behaviour{Domains: []string{"example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	m := &milterTest{t: t, public: machine.freePort(t), backend: server, key: key, record: record, clients: map[string]*mtaClient{}, log: &lockedBuffer{}}
	folder := t.TempDir()
	var milters, rules strings.Builder
	for _, p := range programs {
		fmt.Fprintf(&milters, "    - {name: %s, address: \"inet:127.0.0.1:%s\", after: %q, reuse: %s, on_error: defer}\n", p.name, ports[p.name], p.after, reuse)
		for _, action := range []string{"reject", "defer"} {
			fmt.Fprintf(&rules, "  - {name: %s-%ss, when: milter.%s.%ss, then: %s, reply: \"{milter.%s.reply}\"}\n", p.name, action, p.name, action, action, p.name)
		}
	}
	file := filepath.Join(folder, "gatepost.yaml")
	write(t, file, fmt.Sprintf(`hostname: mx.example.org
domains: [example.org]
listen: [{address: %q, proxy_from: [127.0.0.1]}]
backend: {address: %q}
store: {path: %s/state}
admin: off
resolver: {servers: [%q], timeout: 2s}
filters:
  milter:
%srules:
%s`, m.public, server.Address(), folder, serveDNS(t, machine), milters.String(), rules.String()))
	process := exec.Command(binary(t), "serve", "-c", file)
	process.Stdout, process.Stderr = m.log, m.log
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Process.Signal(syscall.SIGTERM)
		if err := process.Wait(); err != nil {
			t.Errorf("gatepost serve: %v", err)
		}
		if t.Failed() {
			t.Logf("gatepost's log:\n%s", tail(m.log.String(), 60))
		}
	})
	(&site{mta: &mta{name: "Gatepost"}, front: machine, address: m.public}).awaitListener(t)
	return m
}

// client is the one connection of a client.
func (m *milterTest) client(address string) *mtaClient {
	m.t.Helper()
	if c := m.clients[address]; c != nil {
		c.t = m.t
		return c
	}
	conn, err := net.Dial("tcp", m.public)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { delete(m.clients, address) })
	c := newMTAClient(m.t, conn, fmt.Sprintf("PROXY TCP4 %s 127.0.0.1 40000 25\r\n", address))
	c.say("EHLO mail.example.com", "250")
	m.clients[address] = c
	return c
}

// leave ends the connection of a client, and waits until Gatepost has, too.
func (m *milterTest) leave(address string) {
	m.t.Helper()
	c := m.clients[address]
	c.say("QUIT", "221")
	if _, err := c.in.ReadByte(); err != io.EOF {
		m.t.Errorf("behind QUIT: %v", err)
	}
	delete(m.clients, address)
}

// send returns the final reply.
func (m *milterTest) send(client, from, message string) string {
	m.t.Helper()
	c := m.client(client)
	c.say("MAIL FROM:<"+from+">", "250")
	deadline := time.Now().Add(20 * time.Second)
	for {
		c.write("RCPT TO:<alice@example.org>\r\n")
		if reply := c.expect(""); strings.HasPrefix(reply, "250") {
			break
		} else if time.Now().After(deadline) { // 451 until the backend was probed
			m.t.Fatal(reply)
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.say("DATA", "354")
	message = strings.ReplaceAll("\r\n"+message, "\r\n.", "\r\n..")[len("\r\n"):]
	return c.raw(message+".\r\n", "")
}

// deliver returns what the backend got.
func (m *milterTest) deliver(client, from, message string) []byte {
	m.t.Helper()
	before := len(m.backend.Messages())
	if reply := m.send(client, from, message); !strings.HasPrefix(reply, "250") {
		m.t.Fatal(reply)
	}
	messages := m.backend.Messages()
	if len(messages) != before+1 {
		m.t.Fatalf("%d messages", len(messages)-before)
	}
	return messages[before].Data
}

func (m *milterTest) refuse(text, want string) {
	m.t.Helper()
	before := len(m.backend.Messages())
	if reply := m.send(stranger, "a@example.com", m.signed(text)); !strings.HasPrefix(reply, want) {
		m.t.Errorf("got %q, want %q", reply, want)
	}
	if len(m.backend.Messages()) != before {
		m.t.Error("the backend got it")
	}
}

// signed is a message of example.com.
func (m *milterTest) signed(text string) string {
	m.t.Helper()
	message := "From: a@example.com\r\nTo: alice@example.org\r\nSubject: folded\r\n  and  more\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n\r\n" + text + "\r\n"
	var out bytes.Buffer
	err := dkim.Sign(&out, strings.NewReader(message), &dkim.SignOptions{Domain: "example.com", Selector: "s", Signer: m.key,
		HeaderCanonicalization: dkim.CanonicalizationSimple, BodyCanonicalization: dkim.CanonicalizationSimple})
	if err != nil {
		m.t.Fatal(err)
	}
	return out.String()
}

func (m *milterTest) lookup(name string) ([]string, error) {
	if slices.Contains([]string{"s._domainkey.example.com", "s._domainkey.example.org"}, name) {
		return []string{m.record}, nil
	}
	return nil, errors.New("no such name")
}
