//go:build mta

package main

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/proxy/backend"
)

// A site is one mail server with one Gatepost before it.
type site struct {
	mta         *mta
	way         backend.ClientAddress
	eager       bool   // backend.eager, without TLS towards the server
	root        string // what .ci/mta-root unpacked
	front, back *network
	address     string // where the server is to listen
	addressV6   string // where it listens, too, or empty
	box         string // folder below the root where alice's mail arrives, a Maildir
	certificate string // folder below the root, cert.pem and key.pem, for the host of address

	public, submission string // where Gatepost listens
	configuration      string // Gatepost's
	log                string // file with Gatepost's log

	milter        string // where the server calls Gatepost as a milter, in its words; empty: it does not
	milterAddress string // the same in Gatepost's words
	misused       bool   // Gatepost has reason to complain of who calls it
	// policyServer is the restriction by which Postfix asks Gatepost; empty: it does not.
	policyServer string

	server *exec.Cmd
	output string // file with what the server prints
}

// newSite is a site on this machine's loopback, or in network namespaces where the client's address is to be the source.
func newSite(t *testing.T, m *mta, way backend.ClientAddress) *site {
	t.Helper()
	s := &site{mta: m, way: way, root: mtaRoot(t), front: machine, back: machine}
	if way == backend.Transparent {
		s.front, s.back = newNetworks(t)
	}
	s.address, s.public, s.submission = s.back.freePort(t), s.front.freePort(t), s.front.freePort(t)
	name := strings.ToLower(m.name)
	s.box, s.certificate = "/var/vmail/"+name, "/etc/ssl/"+name
	certificate(t, filepath.Join(s.root, s.certificate), s.back.host)
	s.emptyFolder(t, s.box, "vmail")
	if m.log != mtaSyslog {
		os.Remove(filepath.Join(s.root, m.log))
	}
	return s
}

// manner is way, and whether it is eager.
func (s *site) manner() string {
	if s.eager {
		return string(s.way) + " eager"
	}
	return string(s.way)
}

// port is the port of address.
func (s *site) port() string {
	_, port, _ := net.SplitHostPort(s.address)
	return port
}

// write writes a file below the root.
func (s *site) write(t *testing.T, path, content string) {
	t.Helper()
	write(t, filepath.Join(s.root, path), content)
}

// emptyFolder makes a folder below the root anew, for one of the server's users.
func (s *site) emptyFolder(t *testing.T, path, owner string) {
	t.Helper()
	path = filepath.Join(s.root, path)
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	chown(t, path, owner)
}

// call runs a shell script below the root and waits for its end.
func (s *site) call(t *testing.T, script string) {
	t.Helper()
	if output, err := s.command(script, 0).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, output)
	}
}

// serve runs a shell script that starts the server's processes, until the test ends. They live in a PID namespace, so
// that not even daemons outlive it.
func (s *site) serve(t *testing.T, script string) {
	t.Helper()
	output, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	s.output = output.Name()
	s.server = s.command(script+"\nwhile :; do sleep 60; done", syscall.CLONE_NEWPID)
	s.server.Stdout, s.server.Stderr = output, output
	s.back.do(func() { err = s.server.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("%s's log:\n%s", s.mta.name, tail(s.readLog(), 60))
		}
	})
}

func (s *site) command(script string, namespaces uintptr) *exec.Cmd {
	c := exec.Command("/bin/sh", "-ec", script)
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: s.root, Setpgid: true, Cloneflags: namespaces}
	c.Dir = "/"
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	return c
}

// kill ends the server with all its processes at once. It may be called twice.
func (s *site) kill() {
	if s.server != nil {
		s.server.Process.Kill()
		s.server.Wait()
		s.server = nil
	}
}

func (s *site) awaitListener(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		if conn, err := s.front.dial(s.address); err == nil {
			conn.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s does not listen on %s", s.mta.name, s.address)
}

// readLog is what the server logged and printed.
func (s *site) readLog() string {
	log, _ := os.ReadFile(filepath.Join(s.root, s.mta.log))
	var own strings.Builder
	for line := range strings.Lines(string(log)) {
		if s.mta.log != mtaSyslog || strings.Contains(line, strings.ToLower(s.mta.name)) {
			own.WriteString(line)
		}
	}
	output, _ := os.ReadFile(s.output)
	return own.String() + string(output)
}

// awaitLog waits until the server has logged text.
func (s *site) awaitLog(t *testing.T, text string) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !strings.Contains(s.readLog(), text); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("no %q in the log", text)
		}
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// message waits for one new message in alice's folder, returns and removes it.
func (s *site) message(t *testing.T) []byte {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		for _, path := range s.messages(t) {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			return content
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s delivered nothing", s.mta.name)
	return nil
}

func (s *site) messages(t *testing.T) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(filepath.Join(s.root, s.box), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && filepath.Base(filepath.Dir(path)) == "new" {
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// startGatepost runs the real binary before the server until the test ends, and waits until it takes mail.
func (s *site) startGatepost(t *testing.T) {
	t.Helper()
	folder := t.TempDir()
	certificate(t, folder, "mx.example.org")
	s.configuration = filepath.Join(folder, "gatepost.yaml")
	listener := fmt.Sprintf("certificate: %s/cert.pem, key: %s/key.pem, proxy_from: [%s]", folder, folder, s.front.host)
	listeners := fmt.Sprintf("  - {address: %q, %s}", s.public, listener)
	if s.mta.wrong != "" {
		listeners += fmt.Sprintf("\n  - {address: %q, %s, submission: on}", s.submission, listener)
	}
	security := "tls: none"
	switch {
	case s.eager:
		security = "tls: none, eager: on"
	case s.mta.verified:
		security = "tls: verified, ca: " + filepath.Join(s.root, s.certificate, "cert.pem")
	}
	write(t, s.configuration, fmt.Sprintf(`hostname: mx.example.org
domains: [example.org]
listen:
%s
backend: {address: [%s], client_address: %s, %s}
store: {path: %s/state}
admin: off
resolver: {servers: [%q], timeout: 2s}
filters:
  greylist: {delay: 1s}
rules:
  - {name: hurry, when: 'helo.name == "hurry.example.net"', then: accept}
  - {name: grey, when: 'mail.address == "grey@example.com"', then: greylist}
`, listeners, s.backends(), s.way, security, folder, serveDNS(t, s.front)))
	process := exec.Command(binary(t), "serve", "-c", s.configuration)
	s.log = filepath.Join(folder, "output")
	output, err := os.Create(s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	process.Stdout, process.Stderr = output, output
	s.front.do(func() { err = process.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Process.Signal(syscall.SIGTERM)
		if err := process.Wait(); err != nil {
			t.Errorf("gatepost serve: %v", err)
		}
		if t.Failed() {
			log, _ := os.ReadFile(s.log)
			t.Logf("gatepost's log:\n%s", tail(string(log), 60))
		}
	})
	s.awaitReady(t)
}

// backends is the list in Gatepost's configuration.
func (s *site) backends() string {
	if s.addressV6 == "" {
		return strconv.Quote(s.address)
	}
	return strconv.Quote(s.address) + ", " + strconv.Quote(s.addressV6)
}

// awaitReady waits until the relay check is done and RCPT is answered.
func (s *site) awaitReady(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		if ready(s.front, s.public) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("gatepost does not answer RCPT")
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

// dial connects to Gatepost as the stranger.
func (s *site) dial(t *testing.T) *mtaClient {
	t.Helper()
	return s.dialPort(t, s.public)
}

func (s *site) dialPort(t *testing.T, address string) *mtaClient {
	t.Helper()
	conn, err := s.front.dial(address)
	if err != nil {
		t.Fatal(err)
	}
	return newMTAClient(t, conn, proxyHeader(conn))
}
