//go:build mta

package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stranger is the client that every test pretends to be: a PROXY header says so.
const stranger = "198.51.100.7"

func TestMTAPostfixByXCLIENT(t *testing.T) {
	m := startPostfix(t)
	m.names = true // it takes the name from us, and does not look itself
	runMTA(t, m, m.xclient, "xclient", "550 5.1.1 <nobody@example.org>: Recipient address rejected: User unknown")
}

func TestMTAPostfixByPROXY(t *testing.T) {
	m := startPostfix(t)
	runMTA(t, m, m.proxy, "proxy-v2", "550 5.1.1 <nobody@example.org>: Recipient address rejected: User unknown")
}

func TestMTAEximByPROXY(t *testing.T) {
	m := startExim(t)
	runMTA(t, m, m.proxy, "proxy-v2", "550 no such person at example.org")
}

// header starts every message: servers add some of these fields where they are missing.
const header = "From: bob@example.net\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.net>\r\n"

// runMTA shows with one mail server all that an operator counts on.
func runMTA(t *testing.T, m *mailServer, backend, handOver, unknownUser string) {
	address, control := startGatepost(t, backend, handOver)

	t.Run("mail arrives with the client's address", func(t *testing.T) {
		body := header + "Subject: hello\r\n\r\nHello.\r\n"
		arrived := deliver(t, m, address, nil, "alice@example.org", body, "")
		if !bytes.Contains(bytes.ReplaceAll(arrived, []byte("\n\t"), []byte(" ")), []byte("["+stranger+"]")) {
			t.Errorf("no [%s] in:\n%s", stranger, arrived)
		}
		if m.names && !bytes.Contains(arrived, []byte(strangerName+" ["+stranger+"]")) {
			t.Errorf("no %s [%s] in:\n%s", strangerName, stranger, arrived)
		}
		mustEnd(t, arrived, body)
	})
	t.Run("an unknown user is refused in the server's words", func(t *testing.T) {
		c := dialMTA(t, address)
		c.say("EHLO client.example.net", "250")
		c.say("MAIL FROM:<bob@example.net>", "250")
		if got := c.say("RCPT TO:<nobody@example.org>", "550"); !strings.HasPrefix(got, unknownUser) {
			t.Errorf("got %q, want %q", got, unknownUser)
		}
		c.say("RCPT TO:<someone@example.com>", "550 5.7.1")
	})
	t.Run("a greylisted sender passes on retry", func(t *testing.T) {
		attempt := func(want string) {
			c := dialMTA(t, address)
			c.say("EHLO client.example.net", "250")
			c.say("MAIL FROM:<grey@example.com>", "250")
			c.say("RCPT TO:<alice@example.org>", want)
			if want == "250" {
				c.message(header+"Subject: grey\r\n\r\nAgain.\r\n", "250")
			}
		}
		attempt("451 4.7.1")
		time.Sleep(2 * time.Second) // the configured greylist delay is one second; the server is another process
		attempt("250")
		mustEnd(t, m.message(t), header+"Subject: grey\r\n\r\nAgain.\r\n")
		listed, err := exec.Command(binary(t), "greylist", "list", "-c", control).CombinedOutput()
		if err != nil || !strings.Contains(string(listed), "passed") {
			t.Errorf("greylist list: %v\n%s", err, listed)
		}
	})
	t.Run("20 MiB", func(t *testing.T) {
		body := header + "Subject: large\r\n\r\n" + strings.Repeat(strings.Repeat("0123456789abcdef", 4)+"\r\n", 20<<20/66)
		mustEnd(t, deliver(t, m, address, nil, "alice@example.org", body, ""), body)
	})
	t.Run("8-bit", func(t *testing.T) {
		body := header + "Subject: eight\r\n\r\nGr\xc3\xbc\xc3\x9fe \xe4\xf6\xfc\r\n"
		mustEnd(t, deliver(t, m, address, nil, "alice@example.org", body, " BODY=8BITMIME"), body)
	})
	t.Run("SMTPUTF8", func(t *testing.T) {
		body := header + "Subject: Gr\xc3\xbc\xc3\x9fe\r\n\r\nutf8\r\n"
		mustEnd(t, deliver(t, m, address, nil, "älice@example.org", body, " SMTPUTF8"), body)
	})
	t.Run("dots and long lines", func(t *testing.T) {
		body := header + "Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n" + strings.Repeat("y", 900) + "\r\n"
		c := dialMTA(t, address)
		c.transaction("alice@example.org", "")
		c.message(body, "250")
		mustEnd(t, m.message(t), body)
	})
	t.Run("BDAT", func(t *testing.T) {
		first, second := header+"Subject: chunks\r\n\r\nOne.\r\n.\r\n", "Two.\r\n"
		c := dialMTA(t, address)
		c.transaction("alice@example.org", "")
		c.raw(fmt.Sprintf("BDAT %d\r\n%s", len(first), first), "250")
		c.raw(fmt.Sprintf("BDAT %d LAST\r\n%s", len(second), second), "250")
		mustEnd(t, m.message(t), first+second)
	})
	t.Run("TLS", func(t *testing.T) {
		body := header + "Subject: tls\r\n\r\nSecret.\r\n"
		arrived := deliver(t, m, address, &tls.Config{InsecureSkipVerify: true}, "alice@example.org", body, "")
		mustEnd(t, arrived, body)
	})
	t.Run("the server has nothing to complain of", func(t *testing.T) {
		log, err := os.ReadFile(filepath.Join(m.root, m.log))
		if err != nil {
			t.Fatal(err)
		}
		for _, complaint := range []string{"improper command pipelining", "synchronization error"} {
			if bytes.Contains(log, []byte(complaint)) {
				t.Errorf("%s's log has %q:\n%s", m.name, complaint, tail(string(log), 20))
			}
		}
	})
	t.Run("the server dies in mid-message", func(t *testing.T) {
		c := dialMTA(t, address)
		c.transaction("alice@example.org", "")
		c.say("DATA", "354")
		c.write(header + "Subject: lost\r\n\r\nHalf a mess")
		m.kill()
		c.raw("age.\r\n.\r\n", "4")
		c.say("NOOP", "250")
	})
}

// deliver sends one message and returns what arrived.
func deliver(t *testing.T, m *mailServer, address string, secure *tls.Config, recipient, body, params string) []byte {
	t.Helper()
	c := dialMTA(t, address)
	if secure != nil {
		c.say("EHLO client.example.net", "250")
		c.say("STARTTLS", "220")
		c.startTLS(secure)
	}
	c.transaction(recipient, params)
	c.message(body, "250")
	c.say("QUIT", "221")
	return m.message(t)
}

// mustEnd compares what arrived, below the fields that servers put on top, with what was sent. Both servers store
// messages with the system's line ends.
func mustEnd(t *testing.T, arrived []byte, sent string) {
	t.Helper()
	want := []byte(strings.ReplaceAll(sent, "\r\n", "\n"))
	if !bytes.HasSuffix(arrived, want) {
		t.Errorf("%d bytes arrived and do not end in the %d bytes sent; the last are %q", len(arrived), len(want), tail(string(arrived), 3))
	}
}

// binary is the gatepost that `make build` made.
func binary(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "bin", "gatepost"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// startGatepost runs the real binary before a backend and returns the address it serves and its configuration file.
func startGatepost(t *testing.T, backend, handOver string) (address, file string) {
	t.Helper()
	folder, address := t.TempDir(), freePort(t)
	certificate(t, folder, "mx.example.org")
	file = filepath.Join(folder, "gatepost.yaml")
	write(t, file, fmt.Sprintf(`hostname: mx.example.org
domains: [example.org]
listen:
  - address: %s
    certificate: %s/cert.pem
    key: %s/key.pem
    proxy_from: [127.0.0.1]
backend: {address: %q, client_address: %s}
store: {path: %s/state}
resolver: {servers: [%q], timeout: 2s}
filters:
  greylist: {delay: 1s}
rules:
  - {name: grey, when: 'mail.address == "grey@example.com"', then: greylist}
`, address, folder, folder, backend, handOver, folder, serveDNS(t)))
	process := exec.Command(binary(t), "serve", "-c", file)
	var output bytes.Buffer
	process.Stdout, process.Stderr = &output, &output
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Process.Signal(syscall.SIGTERM)
		if err := process.Wait(); err != nil {
			t.Errorf("gatepost serve: %v", err)
		}
		if t.Failed() {
			t.Logf("gatepost's log:\n%s", tail(output.String(), 60))
		}
	})
	awaitReady(t, address)
	return address, file
}

// awaitReady waits until the relay check is done and RCPT is answered.
func awaitReady(t *testing.T, address string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		if ready(t, address) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("gatepost does not answer RCPT")
}
