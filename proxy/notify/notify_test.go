package notify

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

func TestTell(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), "@gatepost-notify-" + strconv.Itoa(os.Getpid())} {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("NOTIFY_SOCKET", name)
		m, err := FromEnvironment()
		if err != nil {
			t.Fatal(err)
		}
		m.Tell(Ready, MainPID(7), Status("two\nlines"))
		b := make([]byte, 100)
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, err := conn.Read(b)
		if got := string(b[:n]); err != nil || got != "READY=1\nMAINPID=7\nSTATUS=two lines" {
			t.Errorf("%q, %v", got, err)
		}
		conn.Close()
		m.Tell(Ready) // to nobody
		m.Close()
	}
	t.Setenv("NOTIFY_SOCKET", "")
	m, err := FromEnvironment()
	if m != nil || err != nil {
		t.Error(m, err)
	}
	m.Tell(Ready)
	m.Close()
	t.Setenv("NOTIFY_SOCKET", "vsock:2:1234")
	if _, err := FromEnvironment(); err == nil {
		t.Error("no UNIX socket")
	}
}

func TestWatchdogInterval(t *testing.T) {
	for _, test := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0}, {"2000000", "", 2 * time.Second}, {"2000000", strconv.Itoa(os.Getpid()), 2 * time.Second}, {"2000000", "1", 0},
		{"-1", "", 0}, {"x", "", 0}, {"9223372036854775807", "", 0},
	} {
		t.Setenv("WATCHDOG_USEC", test.usec)
		t.Setenv("WATCHDOG_PID", test.pid)
		if got := WatchdogInterval(); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}
