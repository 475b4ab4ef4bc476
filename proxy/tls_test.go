package proxy

import (
	"bufio"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/rules"
)

// hand is a clock that is moved by hand.
type hand struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func (h *hand) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hand) advance(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

// handshake makes a TLS connection right away and returns the client and what the server's certificate names.
func (h *house) handshake(config *tls.Config) (*client, string, error) {
	h.t.Helper()
	c := h.dial()
	config.InsecureSkipVerify = true
	secured := tls.Client(c.Conn, config)
	if err := secured.Handshake(); err != nil {
		return nil, "", err
	}
	c.Conn, c.r = secured, bufio.NewReader(secured)
	return c, secured.ConnectionState().PeerCertificates[0].DNSNames[0], nil
}

func TestImplicitTLS(t *testing.T) {
	for _, threads := range []bool{false, true} {
		h := start(t, setup{threads: threads, listen: Listen{Certificate: certificate(t), ImplicitTLS: true}})
		c, _, err := h.handshake(&tls.Config{})
		if err != nil {
			t.Fatal(err)
		}
		c.expect("220 ")
		if reply := c.say("EHLO client.test", "250"); strings.Contains(reply, "STARTTLS") {
			t.Errorf("STARTTLS inside TLS: %q", reply)
		}
		c.say("STARTTLS", "503 5.5.1")
		c.say("MAIL FROM:<a@example.org>", "250")
		c.say("RCPT TO:<b@example.com>", "250")
		c.say("DATA", "354")
		c.say("x: y\r\n.", "250 2.0.0")
		c.say("QUIT", "221")

		plain := h.dial()
		plain.send("EHLO client.test\r\n")
		if got := plain.reply(); strings.HasPrefix(got, "2") {
			t.Errorf("in the clear: %q", got)
		}
	}
}

// The handshake may be in the segment of the PROXY header.
func TestImplicitTLSBehindProxyHeader(t *testing.T) {
	h := start(t, setup{listen: Listen{Certificate: certificate(t), ImplicitTLS: true, ProxyFrom: prefixes("127.0.0.1/32")}})
	c := h.dial()
	c.Conn = &prefixed{Conn: c.Conn, prefix: []byte("PROXY TCP4 192.0.2.7 192.0.2.1 4000 465\r\n")}
	c.upgrade()
	c.expect("220 ")
	c.say("EHLO client.test", "250")
	c.say("MAIL FROM:<a@example.org>", "250")
	c.say("RCPT TO:<b@example.com>", "250")
	c.say("DATA", "354")
	c.say("x: y\r\n.", "250 2.0.0")
	if got := h.backends[0].Messages()[0].Client.String(); got != "192.0.2.7:4000" {
		t.Errorf("client %s", got)
	}
}

// prefixed writes something before the first bytes, in the same segment.
type prefixed struct {
	net.Conn
	prefix []byte
}

func (p *prefixed) Write(b []byte) (int, error) {
	text := append(p.prefix, b...)
	p.prefix = nil
	if _, err := p.Conn.Write(text); err != nil {
		return 0, err
	}
	return len(b), nil
}

func TestCertificateByName(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"mx.test", "mail.example.org", "new.example.org"} {
		writeCertificate(t, filepath.Join(folder, name), name)
	}
	h := start(t, setup{listen: Listen{ImplicitTLS: true, Certificate: filepath.Join(folder, "mx.test"),
		Certificates: []Certificate{{Certificate: filepath.Join(folder, "mail.example.org")}}}})
	for asked, want := range map[string]string{"": "mx.test", "mx.test": "mx.test", "mail.example.org": "mail.example.org", "other.test": "mx.test"} {
		c, got, err := h.handshake(&tls.Config{ServerName: asked})
		if err != nil || got != want {
			t.Fatalf("%q gets %q, %v", asked, got, err)
		}
		c.Close()
	}
}

// A renewed certificate is in use within a minute; a broken one is not, and is said to be broken once.
func TestCertificateRenewal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mx.pem")
	writeCertificate(t, file, "first.test")
	clock := &hand{now: time.Now()}
	h := start(t, setup{clock: clock, listen: Listen{ImplicitTLS: true, Certificate: file}})
	shown := func(want string) {
		t.Helper()
		c, got, err := h.handshake(&tls.Config{})
		if err != nil || got != want {
			t.Fatalf("shows %q, want %q; %v", got, want, err)
		}
		c.Close()
	}
	age := 0
	change := func(f func()) {
		f()
		age++ // some file systems' clocks are coarse
		if err := os.Chtimes(file, time.Time{}, time.Now().Add(time.Duration(age)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	shown("first.test")
	change(func() { writeCertificate(t, file, "second.test") })
	shown("first.test")
	clock.advance(checkInterval)
	shown("second.test")
	change(func() { os.WriteFile(file, []byte("half of it"), 0o600) })
	for range 3 {
		clock.advance(checkInterval)
		shown("second.test")
	}
	if n := strings.Count(h.log.String(), "cannot be used"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if err := h.server.Reload(h.service, &Listening{Entries: []Listen{{Address: "127.0.0.1:0", ImplicitTLS: true, Certificate: file}}}); err == nil {
		t.Error("a reload takes the broken file")
	}
	shown("second.test")
	change(func() { writeCertificate(t, file, "third.test") })
	clock.advance(checkInterval)
	shown("third.test")
	change(func() { writeCertificate(t, file, "fourth.test") })
	if err := h.server.Reload(h.service, &Listening{Entries: []Listen{{Address: "127.0.0.1:0", ImplicitTLS: true, Certificate: file}}}); err != nil {
		t.Fatal(err)
	}
	shown("fourth.test")
}

func TestMinTLS(t *testing.T) {
	file := certificate(t)
	for _, test := range []struct {
		least string
		spoke uint16
		works bool
	}{{"", tls.VersionTLS12, true}, {"", tls.VersionTLS11, false}, {"1.3", tls.VersionTLS12, false}, {"1.3", tls.VersionTLS13, true}, {"1.0", tls.VersionTLS10, true}} {
		var version TLSVersion
		if test.least != "" {
			if err := version.UnmarshalText([]byte(test.least)); err != nil {
				t.Fatal(err)
			}
		}
		h := start(t, setup{listen: Listen{ImplicitTLS: true, Certificate: file, MinTLS: version}})
		c, _, err := h.handshake(&tls.Config{MinVersion: test.spoke, MaxVersion: test.spoke})
		if (err == nil) != test.works {
			t.Errorf("min_tls %q, client %x: %v", test.least, test.spoke, err)
		}
		if c != nil {
			c.Close()
		}
	}
}

// A client whose certificate is good is known to rules; one with another is served all the same.
func TestClientCertificate(t *testing.T) {
	folder := t.TempDir()
	good := writeCertificate(t, filepath.Join(folder, "good.pem"), "relay.example.org")
	other := writeCertificate(t, filepath.Join(folder, "other.pem"), "relay.example.org")
	rule := []rules.Definition{definition(map[string]string{"name": "known", "when": `helo.client_cert == "CN=relay.example.org"`, "then": "reject",
		"reply": "550 5.7.1 known"})}
	for _, test := range []struct {
		ca    string
		show  []tls.Certificate
		reply string
	}{
		{"good.pem", []tls.Certificate{good}, "550 5.7.1 known"},
		{"good.pem", []tls.Certificate{other}, "250"},
		{"good.pem", nil, "250"},
		{"", []tls.Certificate{good}, "250"},
	} {
		l := Listen{ImplicitTLS: true, Certificate: certificate(t)}
		if test.ca != "" {
			l.ClientCA = filepath.Join(folder, test.ca)
		}
		h := start(t, setup{listen: l, rules: rule})
		asked := false
		c, _, err := h.handshake(&tls.Config{GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if asked = true; len(test.show) == 0 {
				return &tls.Certificate{}, nil
			}
			return &test.show[0], nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		c.expect("220 ")
		c.say("EHLO client.test", "250")
		c.say("MAIL FROM:<a@example.org>", "250")
		c.say("RCPT TO:<b@example.com>", test.reply)
		c.Close()
		if asked != (test.ca != "") {
			t.Errorf("asked for a certificate: %t", asked)
		}
	}
}

func TestListenValidation(t *testing.T) {
	for problem, l := range map[string]Listen{
		"implicit_tls":                {Address: ":465", ImplicitTLS: true},
		"client_ca":                   {Address: ":25", ClientCA: "ca.pem"},
		"certificates[0].certificate": {Address: ":25", Certificates: []Certificate{{Key: "x"}}},
	} {
		if err := l.Validate(); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: %v", problem, err)
		}
	}
}
