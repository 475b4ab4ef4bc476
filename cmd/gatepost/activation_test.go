package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/proxy/backend/backendtest"
)

// manager hears what a service tells its service manager.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func listenForNotes(t *testing.T, name string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &manager{t, conn}
}

// await returns the first message with a line that begins so.
func (m *manager) await(want string) string {
	m.t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 4096)
	for {
		n, err := m.conn.Read(b)
		if err != nil {
			m.t.Fatalf("no %s: %v", want, err)
		}
		if strings.Contains("\n"+string(b[:n]), "\n"+want) {
			return string(b[:n])
		}
	}
}

// TestAsSystemdStartsIt gives the process its sockets, a watchdog and somebody to tell, and upgrades it.
func TestAsSystemdStartsIt(t *testing.T) {
	backend, err := backendtest.Start(backendtest.Behaviour{Domains: []string{"example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backend.Close)
	s := &served{t: t, folder: t.TempDir(), backend: backend}
	s.file = filepath.Join(s.folder, "gatepost.yaml")
	smtp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer smtp.Close()
	milter, err := net.Listen("unix", filepath.Join(s.folder, "milter.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer milter.Close()
	unused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer unused.Close()
	s.address = smtp.Addr().String()
	s.configure(settings + "rules: []\nmilter:\n  - {address: 'unix:" + milter.Addr().String() + "'}\nlisten:\n  - {address: '" + s.address + "'}\n")
	waiting := s.dialOnly() // before there is a process

	notes := listenForNotes(t, "@gatepost-test-"+filepath.Base(s.folder)+filepath.Base(t.TempDir())+time.Now().Format("150405.000000"))
	command := exec.Command("sh", "-c", `LISTEN_PID=$$ WATCHDOG_PID=$$ exec gatepost serve -c "$0"`, s.file)
	for _, l := range []net.Listener{unused, smtp, milter} {
		f, err := l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		command.ExtraFiles = append(command.ExtraFiles, f)
	}
	command.Env = append(os.Environ(), "LISTEN_FDS=3", "LISTEN_FDNAMES=other:smtp:milter", "WATCHDOG_USEC=600000",
		"NOTIFY_SOCKET="+notes.conn.LocalAddr().String())
	s.runCommand(command)
	s.awaitLog("sockets that were given are not in the configuration")
	notes.await("READY=1")
	if _, err := waiting.reply("220"); err != nil {
		t.Errorf("who came before the process: %v", err)
	}
	for range 3 {
		notes.await("WATCHDOG=1")
	}
	notes.await("STATUS=1 sessions, 1 of 1 backends for mail up")
	if got := notes.reload(s); !strings.Contains(got, "MONOTONIC_USEC=") || strings.Contains(got, "MONOTONIC_USEC=0\n") {
		t.Errorf("reloading: %q", got)
	}
	notes.await("READY=1")

	output, status := s.command("upgrade")
	if status != 0 {
		t.Fatal(output)
	}
	pid := strings.Fields(output)[1]
	if got := notes.await("MAINPID="); !strings.Contains(got, "MAINPID="+pid+"\n") || !strings.Contains(got, "READY=1") {
		t.Errorf("the service is told to be %q, and the new process is %s", got, pid)
	}
	notes.await("WATCHDOG=1")
	s.recipient("bob@example.net", "250")
	waiting.say("EHLO client.example.net", "250")
	waiting.say("QUIT", "221")
	if status := s.exit(); status != 0 {
		t.Errorf("the old one ended with status %d", status)
	}
	if _, err := os.Stat(milter.Addr().String()); err != nil {
		t.Errorf("systemd's socket was removed: %v", err)
	}
	syscall.Kill(-s.process.Process.Pid, syscall.SIGTERM)
	notes.await("STOPPING=1")
}

func (m *manager) reload(s *served) string {
	m.t.Helper()
	s.signal(syscall.SIGHUP)
	return m.await("RELOADING=1")
}

// dialOnly connects and reads nothing yet.
func (s *served) dialOnly() *talker {
	s.t.Helper()
	k, err := (&crowd{t: s.t, address: s.address}).from("127.0.0.1")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { k.conn.Close() })
	return k
}
