package redistest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

// Options say how a server is started.
type Options struct {
	Lines    []string // of its configuration, such as "maxmemory 3mb"
	Password string
	TLS      *tls.Config // of clients; the server's part is in Lines
	Flags    []string    // of the command
}

// Server is a process that is started by [Start] and ends with the test.
type Server struct {
	Address string
	Folder  string // its own

	t       testing.TB
	options Options
	config  string
	command *exec.Cmd
}

// Binary finds the server's program, or skips the test.
func Binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("GATEPOST_REDIS"); path != "" {
		return path
	}
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	folder, _ := os.Getwd()
	for ; folder != "/"; folder = filepath.Dir(folder) {
		if path := filepath.Join(folder, "build", "redis", "redis-server"); exists(path) {
			return path
		}
		if exists(filepath.Join(folder, "go.mod")) {
			break
		}
	}
	t.Skip("redis-server is not installed, and `.ci/redis build/redis` has not been run")
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Start starts a server that keeps nothing on disk, and waits until it answers.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	binary := Binary(t)
	for attempt := 1; ; attempt++ {
		s := &Server{t: t, Folder: t.TempDir(), Address: freeAddress(t), options: o}
		s.config = filepath.Join(s.Folder, "server.conf")
		if err := os.WriteFile(s.config, []byte(s.text()), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Kill)
		err := s.run(binary)
		if err == nil {
			return s
		}
		if s.Kill(); attempt == 3 { // somebody else may have been quicker to take the port
			t.Fatalf("%s does not answer: %v", s.Address, err)
		}
	}
}

func (s *Server) text() string {
	_, port, _ := net.SplitHostPort(s.Address)
	lines := []string{"bind 127.0.0.1", "dir " + s.Folder, "daemonize no", "protected-mode no", `save ""`, "appendonly no",
		"logfile " + filepath.Join(s.Folder, "log")}
	if s.options.TLS != nil {
		lines = append(lines, "port 0", "tls-port "+port)
	} else {
		lines = append(lines, "port "+port)
	}
	if s.options.Password != "" {
		lines = append(lines, `requirepass "`+s.options.Password+`"`)
	}
	return strings.Join(append(lines, s.options.Lines...), "\n") + "\n"
}

// run starts the process and waits until it answers.
func (s *Server) run(binary string) error {
	s.command = exec.Command(binary, append([]string{s.config}, s.options.Flags...)...)
	s.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.command.Start(); err != nil {
		return err
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := s.ping()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *Server) ping() error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	return nil
}

func (s *Server) dial() (rueidis.Client, error) {
	return rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Address}, ForceSingleClient: true, DisableCache: true,
		Password: s.options.Password, TLSConfig: s.options.TLS, ConnWriteTimeout: 5 * time.Second})
}

// Do sends a command and returns its answer as text.
func (s *Server) Do(words ...string) (string, error) {
	c, err := s.dial()
	if err != nil {
		return "", err
	}
	defer c.Close()
	answer, err := c.Do(s.t.Context(), c.B().Arbitrary(words...).Build()).ToAny()
	if err != nil {
		return "", err
	}
	return fmt.Sprint(answer), nil
}

// list sends a command that answers with texts.
func (s *Server) list(words ...string) ([]string, error) {
	c, err := s.dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Do(s.t.Context(), c.B().Arbitrary(words...).Build()).AsStrSlice()
}

// Must is Do for commands that do not fail.
func (s *Server) Must(words ...string) string {
	s.t.Helper()
	answer, err := s.Do(words...)
	if err != nil {
		s.t.Fatalf("%s: %s: %v", s.Address, strings.Join(words, " "), err)
	}
	return answer
}

// Stall stops the process: connections stay, nothing answers. Resume lets it go on.
func (s *Server) Stall() { s.signal(syscall.SIGSTOP) }

// Resume ends Stall.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	if err := s.command.Process.Signal(sig); err != nil {
		s.t.Errorf("%s: %v", s.Address, err)
	}
}

// Kill ends the process at once. It may be called again.
func (s *Server) Kill() {
	if s.command == nil || s.command.Process == nil {
		return
	}
	if err := s.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Errorf("%s: %v", s.Address, err)
	}
	_ = s.command.Wait()
	s.command = nil
}

// Restart starts the process again, with nothing in its memory.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	if err := s.run(Binary(s.t)); err != nil {
		s.t.Fatal(err)
	}
}

// freeAddress is one that nobody listens on now. Cluster nodes use the port 10,000 above, too.
func freeAddress(t testing.TB) string {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().(*net.TCPAddr)
		_ = l.Close()
		if address.Port < 55000 {
			return address.String()
		}
	}
	t.Fatal("no free port below 55000")
	return ""
}

// Eventually waits until what returns nil.
func Eventually(t testing.TB, limit time.Duration, what func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := what()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %v", limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
