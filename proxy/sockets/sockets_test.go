package sockets

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFits(t *testing.T) {
	tcp := func(s string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, test := range []struct {
		network, address string
		bound            net.Addr
		want             bool
	}{
		{"tcp", ":25", tcp("[::]:25"), true},
		{"tcp", ":25", tcp("0.0.0.0:25"), true},
		{"tcp", ":25", tcp("127.0.0.1:25"), false},
		{"tcp", ":smtp", tcp("[::]:25"), true},
		{"tcp", ":26", tcp("[::]:25"), false},
		{"tcp", ":0", tcp("[::]:25"), false},
		{"tcp", "192.0.2.1:25", tcp("192.0.2.1:25"), true},
		{"tcp", "192.0.2.1:25", tcp("192.0.2.2:25"), false},
		{"tcp", "[2001:db8::1]:25", tcp("[2001:db8::1]:25"), true},
		{"tcp", "0.0.0.0:25", tcp("[::]:25"), false},
		{"tcp4", ":25", tcp("[::]:25"), false},
		{"tcp", "no port", tcp("[::]:25"), false},
		{"unix", "/run/a.sock", &net.UnixAddr{Name: "/run/a.sock", Net: "unix"}, true},
		{"unix", "/run/a.sock", &net.UnixAddr{Name: "/run/b.sock", Net: "unix"}, false},
		{"unix", "/run/a.sock", tcp("[::]:25"), false},
		{"tcp", ":25", &net.UnixAddr{Name: ":25", Net: "unix"}, false},
	} {
		if got := fits(&Want{Network: test.network, Address: test.address}, test.bound); got != test.want {
			t.Errorf("%s %s at %s: %t", test.network, test.address, test.bound, got)
		}
	}
}

// TestPassAndBack hands sockets over to nobody: they are as before.
func TestPassAndBack(t *testing.T) {
	s := &Set{}
	path := filepath.Join(t.TempDir(), "a.sock")
	smtp := Want{Use: SMTP, Name: "127.0.0.1:0", Network: "tcp", Address: "127.0.0.1:0"}
	control := Want{Use: Control, Name: path, Network: "unix", Address: path}
	l, inherited, err := s.Listen(t.Context(), smtp)
	if err != nil || inherited {
		t.Fatal(inherited, err)
	}
	defer l.Close()
	c, _, err := s.Listen(t.Context(), control)
	if err != nil {
		t.Fatal(err)
	}
	baton, err := s.Pass()
	if err != nil || len(baton.descriptors) != 2 {
		t.Fatalf("%+v, %v", baton, err)
	}
	process, err := baton.Start("/bin/true", []string{"true"}, baton.descriptors[0])
	if err != nil {
		t.Fatal(err)
	}
	if state, err := process.Wait(); err != nil || !state.Success() {
		t.Errorf("%v, %v", state, err)
	}
	for _, descriptor := range baton.descriptors { // blocking, it would make ours wait, too
		if flags, err := unix.FcntlInt(uintptr(descriptor), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("a socket is in blocking mode: %v", err)
		}
	}
	c.Close() // while somebody else was to have it
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file of a socket on its way was removed: %v", err)
	}
	if err := s.Back(baton); err != nil {
		t.Fatal(err)
	}
	if s.Gives(smtp) || !s.Gives(control) {
		t.Error("the open one is given again, or the closed one is not")
	}
	again, inherited, err := s.Listen(t.Context(), control)
	if err != nil || !inherited {
		t.Fatal(inherited, err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	again.Close()
	if _, err := os.Stat(path); err == nil {
		t.Error("the file stays behind")
	}
	if conn, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestGivenByNobody(t *testing.T) {
	t.Setenv(systemdCount, "2")
	t.Setenv(systemdPID, "1") // of another process
	s, link, err := Given()
	if err != nil || link != nil || len(s.given) != 0 || os.Getenv(systemdCount) != "" {
		t.Errorf("%+v, %v, %v", s, link, err)
	}
	t.Setenv(variable, "nonsense")
	if _, _, err := Given(); err == nil || !strings.Contains(err.Error(), variable) {
		t.Errorf("%v", err)
	}
	var none *Set
	if none.Gives(Want{}) || none.CloseRest() != nil {
		t.Error("no set has sockets")
	}
	if l, inherited, err := none.Listen(t.Context(), Want{Network: "tcp", Address: "127.0.0.1:0"}); err != nil || inherited {
		t.Error(inherited, err)
	} else {
		l.Close()
	}
}
