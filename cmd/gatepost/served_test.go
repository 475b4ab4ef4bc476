package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatepost/proxy/backend/backendtest"
)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

// serves is the line with which a start ends.
const serves = "gatepost serves"

// served is `gatepost serve` in a process of its own, in front of a backend.
type served struct {
	t       *testing.T
	folder  string
	file    string
	address string
	backend *backendtest.Server
	process *exec.Cmd
	log     *logLines
	ended   chan error
}

// settings are what tests say of the configuration file beside the usual; "BACKEND" stands for the backend's address.
const settings = `hostname: mx.example.org
domains: [example.org]
backend: "BACKEND"
store: {path: state}
admin: off
resolver: {servers: ["127.0.0.1:9"], timeout: 200ms, attempt: 100ms}
`

// unpaused is for tests of the default rules that are not about early talkers: nobody waits 3 s for his greeting.
const unpaused = "filters: {earlytalker: {pause: 100ms}}\n"

// settingsWithout leaves a line out.
func settingsWithout(key string) string {
	return regexp.MustCompile(`(?m)^`+key+`:.*\n`).ReplaceAllString(settings, "")
}

// blocked is a rule that refuses a sender.
func blocked(sender string) string {
	return fmt.Sprintf("rules:\n  - {name: blocked, when: 'mail.address == %q', then: reject, reply: 550 5.7.1 not you}\n", sender)
}

// startServe runs the proxy with settings and more, until the test ends.
func startServe(t *testing.T, more string) *served {
	t.Helper()
	if strings.Contains(more, "admin:") {
		return startServeWith(t, settingsWithout("admin")+more)
	}
	return startServeWith(t, settings+more)
}

// startServeWith runs the proxy with a configuration, until the test ends.
func startServeWith(t *testing.T, more string) *served {
	t.Helper()
	backend, err := backendtest.Start(backendtest.Behaviour{Domains: []string{"example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backend.Close)
	s := &served{t: t, folder: t.TempDir(), backend: backend}
	s.file = filepath.Join(s.folder, "gatepost.yaml")
	if !strings.Contains(more, "listen:") {
		more += "listen: {address: '127.0.0.1:0'}\n"
	}
	more = strings.Replace(more, "listen: {", "listen:\n  - {", 1)
	s.configure(more)
	s.run()
	return s
}

func (s *served) configure(text string) {
	s.t.Helper()
	write(s.t, s.file, strings.ReplaceAll(text, "BACKEND", s.backend.Address()))
}

// run starts the process and waits until it serves.
func (s *served) run() {
	s.t.Helper()
	s.runCommand(exec.Command("gatepost", "serve", "-c", s.file))
}

// runCommand starts a process that becomes the proxy, and waits until it serves.
func (s *served) runCommand(command *exec.Cmd) {
	s.t.Helper()
	s.process = command
	s.log = &logLines{changed: make(chan struct{})}
	// A pipe of our own, and a group: a successor has both as well, and outlives the process.
	out, in, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	s.process.Stdout, s.process.Stderr = in, in
	s.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = s.process.Start()
	in.Close()
	if err != nil {
		s.t.Fatal(err)
	}
	written := make(chan struct{})
	go func() { defer close(written); defer out.Close(); io.Copy(s.log, out) }()
	s.ended = make(chan error, 1)
	process := s.process
	ended := s.ended
	go func() { ended <- process.Wait(); close(ended) }()
	s.t.Cleanup(func() {
		syscall.Kill(-process.Process.Pid, syscall.SIGKILL)
		<-ended
		<-written
		if s.t.Failed() {
			s.t.Logf("the log:\n%s", s.log.String())
		}
	})
	line := s.awaitLog(serves)
	s.address = regexp.MustCompile(`listen=\[([^\]]+)\]`).FindStringSubmatch(line)[1]
}

// signal sends a signal to the process.
func (s *served) signal(signal syscall.Signal) {
	s.t.Helper()
	if err := s.process.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}

// reload sends SIGHUP and waits for a line of the log.
func (s *served) reload(want string) string {
	s.t.Helper()
	s.log.forget()
	s.signal(syscall.SIGHUP)
	return s.awaitLog(want)
}

// exit waits for the process and returns its exit status.
func (s *served) exit() int {
	s.t.Helper()
	select {
	case <-s.ended:
		return s.process.ProcessState.ExitCode()
	case <-time.After(patience):
		s.t.Fatal("the process does not end")
		return -1
	}
}

func (s *served) awaitLog(want string) string {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		line, changed := s.log.find(want)
		if line != "" {
			return line
		}
		select {
		case <-changed:
		case <-s.ended:
			if line, _ := s.log.find(want); line != "" {
				return line
			}
			s.t.Fatalf("the process has ended without %q in its log:\n%s", want, s.log.String())
		case <-deadline:
			if want == serves {
				s.dump()
			}
			s.t.Fatalf("no %q in the log:\n%s", want, s.log.String())
		}
	}
}

// dump ends a process that does not come up, and has it write what its goroutines are at.
func (s *served) dump() {
	if s.process.Process.Signal(syscall.SIGQUIT) == nil {
		select {
		case <-s.ended:
		case <-time.After(patience):
		}
	}
}

// command runs another gatepost with the same configuration and returns what it says.
func (s *served) command(args ...string) (output string, status int) {
	s.t.Helper()
	command := exec.Command("gatepost", append(args, "-c", s.file)...)
	text, err := command.CombinedOutput()
	if err != nil && command.ProcessState == nil {
		s.t.Fatal(err)
	}
	return string(text), command.ProcessState.ExitCode()
}

// logLines collects what a process writes. It is safe for concurrent use.
type logLines struct {
	mu      sync.Mutex // guards all below
	text    bytes.Buffer
	from    int           // what is before was forgotten
	changed chan struct{} // closed at the next write
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
	return l.text.Write(b)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// forget makes find look only at what is written from now on.
func (l *logLines) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from = l.text.Len()
}

// forgetNothing makes find look at everything again.
func (l *logLines) forgetNothing() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from = 0
}

// find returns the first whole line with a text in it, or a channel that tells when to look again.
func (l *logLines) find(text string) (line string, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()[l.from:]) {
		if strings.HasSuffix(line, "\n") && strings.Contains(line, text) {
			return line, nil
		}
	}
	return "", l.changed
}

// smtpClient is a client of the proxy.
type smtpClient struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func (s *served) dial() *smtpClient {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	c := newSMTPClient(s.t, conn)
	c.expect("220 mx.example.org")
	c.say("EHLO client.example.net", "250")
	return c
}

func newSMTPClient(t *testing.T, conn net.Conn) *smtpClient {
	return &smtpClient{t, conn, bufio.NewReader(conn)}
}

func (c *smtpClient) say(line, want string) string {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.conn, "%s\r\n", line); err != nil {
		c.t.Fatal(err)
	}
	return c.expect(want)
}

// expect reads a reply, whose last line must start with want.
func (c *smtpClient) expect(want string) string {
	c.t.Helper()
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Fatalf("want %s, got %q and %v", want, line, err)
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, want) {
			c.t.Fatalf("want %s, got %q", want, line)
		}
		return strings.TrimSpace(line)
	}
}

// recipient begins a transaction of a sender, checks the reply to RCPT and returns it.
func (s *served) recipient(sender, want string) string {
	s.t.Helper()
	c := s.dial()
	defer c.conn.Close()
	c.say("MAIL FROM:<"+sender+">", "250")
	return c.say("RCPT TO:<alice@example.org>", want)
}

// recipientOrNot begins a transaction, whatever comes of it.
func (s *served) recipientOrNot(sender string) {
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(conn)
	for _, line := range []string{"EHLO client.example.net", "MAIL FROM:<" + sender + ">", "RCPT TO:<alice@example.org>", "QUIT"} {
		if _, err := in.ReadString('\n'); err != nil {
			return
		}
		fmt.Fprintf(conn, "%s\r\n", line)
	}
	in.ReadString('\n')
}
