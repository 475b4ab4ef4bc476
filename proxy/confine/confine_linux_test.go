package confine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A process cannot be freed again: what is confined here is this test's own program, started anew.
const (
	helper = "CONFINE_TEST_FOLDER"
	port   = "CONFINE_TEST_PORT"
)

func TestMain(m *testing.M) {
	if folder := os.Getenv(helper); folder != "" {
		if err := tryEverything(folder); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// tryEverything confines itself to two folders and one port.
func tryEverything(folder string) error {
	var out []error
	want := func(what string, err error, refused bool) {
		if got := errors.Is(err, syscall.EACCES); got != refused || err != nil && !got {
			out = append(out, fmt.Errorf("%s: %v, refused should be %v", what, err, refused))
		}
	}
	allowed, err := strconv.ParseUint(os.Getenv(port), 10, 16)
	if err != nil {
		return err
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer other.Close()
	g := Grant{Ports: []uint16{}}
	g.ReadFolder(filepath.Join(folder, "read"))
	g.WriteFolder(filepath.Join(folder, "write"))
	g.ReadFolder(filepath.Join(folder, "missing"))
	g.ReadFolder("/proc")
	g.Port(uint16(allowed))
	if Inherited() != nil {
		return errors.New("confined before it was")
	}
	inForce, extent, err := Apply(g)
	if err != nil {
		return err
	}
	if len(inForce.Read) != 2 {
		return fmt.Errorf("what is not there is granted: %v", inForce.Read)
	}
	again := Inherited()
	if again == nil || len(again.Missing(inForce)) > 0 {
		return fmt.Errorf("a successor hears of %v", again)
	}
	// On many threads: each has rights of its own.
	var threads sync.WaitGroup
	var mu sync.Mutex
	for range 8 {
		threads.Go(func() {
			runtime.LockOSThread()
			mu.Lock()
			defer mu.Unlock()
			_, err := os.ReadFile(filepath.Join(folder, "read", "file"))
			want("read", err, false)
			_, err = os.ReadFile(filepath.Join(folder, "read", "outside"))
			want("read by a link", err, true)
			_, err = os.ReadFile(filepath.Join(folder, "outside"))
			want("read outside", err, true)
			want("write where it may read", os.WriteFile(filepath.Join(folder, "read", "new"), nil, 0o600), true)
		})
	}
	threads.Wait()
	name := filepath.Join(folder, "write", "file")
	want("write", os.WriteFile(name, []byte("x"), 0o600), false)
	want("make a folder", os.Mkdir(filepath.Join(folder, "write", "sub"), 0o700), false)
	want("rename", os.Rename(name, filepath.Join(folder, "write", "sub", "file")), false)
	want("remove", os.Remove(filepath.Join(folder, "write", "sub", "file")), false)
	want("run a program", exec.Command("/bin/sh", "-c", ":").Run(), true)
	if extent == FilesTCP {
		_, err = net.Dial("tcp", net.JoinHostPort("127.0.0.1", os.Getenv(port)))
		want("connect", err, false)
		_, err = net.Dial("tcp", other.Addr().String())
		want("connect elsewhere", err, true)
	}
	return errors.Join(out...)
}

func TestConfined(t *testing.T) {
	if Available() == Nothing {
		t.Skip("this kernel has no Landlock")
	}
	folder := t.TempDir()
	for _, path := range []string{"read", "write"} {
		if err := os.Mkdir(filepath.Join(folder, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"read/file", "outside"} {
		if err := os.WriteFile(filepath.Join(folder, path), []byte("text"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(folder, "outside"), filepath.Join(folder, "read", "outside")); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, number, _ := net.SplitHostPort(l.Addr().String())
	command := exec.Command(self)
	command.Env = append(os.Environ(), helper+"="+folder, port+"="+number)
	if text, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestNobodyIsBelievedWhoIsNotConfined(t *testing.T) {
	t.Setenv(variable, `{"read":["/"],"ports":null}`)
	if g := Inherited(); g != nil {
		t.Errorf("%+v", g)
	}
}

func TestOnlyRootBecomesSomebody(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root can")
	}
	if err := Become(&User{Name: "root", UID: 0}); err == nil || !strings.Contains(err.Error(), "start gatepost as root") {
		t.Error(err)
	}
}
