package backend

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

func listenAt(t *testing.T, address string) (*net.TCPListener, netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener), l.Addr().(*net.TCPAddr).AddrPort()
}

func TestDialAddress(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, to := listenAt(t, address)
		nc, err := dialAddress(t.Context(), to, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		peer, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		if nc.RemoteAddr().String() != peer.LocalAddr().String() || nc.LocalAddr().String() != peer.RemoteAddr().String() {
			t.Errorf("from %v to %v, the peer says from %v to %v", nc.LocalAddr(), nc.RemoteAddr(), peer.RemoteAddr(), peer.LocalAddr())
		}
		fast := plain(nc)
		if _, err := fast.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 8)
		if n, err := io.ReadFull(peer, buf[:5]); err != nil || string(buf[:n]) != "hello" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		fast.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := fast.Read(buf); !isTimeout(err) {
			t.Errorf("nothing to read: %v", err)
		}
		if err := below(fast).(interface{ SetLinger(int) error }).SetLinger(0); err != nil {
			t.Error(err)
		}
		fast.Close()
		if _, err := peer.Read(buf); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a connection that does not linger ended with %v", err)
		}
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// What it says when it fails is what package net says.
func TestDialAddressRefused(t *testing.T) {
	l, to := listenAt(t, "127.0.0.1:0")
	l.Close()
	_, err := dialAddress(t.Context(), to, time.Minute)
	_, other := net.DialTimeout("tcp", to.String(), time.Minute)
	if !errors.Is(err, syscall.ECONNREFUSED) || other == nil || err.Error() != other.Error() {
		t.Errorf("%v; package net: %v", err, other)
	}
}

// unwilling is a listener whose queue is full: what else connects has to wait.
func unwilling(t *testing.T) (*net.TCPListener, netip.AddrPort) {
	t.Helper()
	l, to := listenAt(t, "127.0.0.1:0")
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) })
	if err != nil {
		t.Fatal(err)
	}
	for {
		nc, err := net.DialTimeout("tcp", to.String(), 200*time.Millisecond)
		if err != nil {
			return l, to
		}
		t.Cleanup(func() { nc.Close() })
	}
}

func TestDialAddressWaits(t *testing.T) {
	l, to := unwilling(t)
	cancelled, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	short, cancelShort := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancelShort()
	for name, test := range map[string]struct {
		ctx     context.Context
		timeout time.Duration
		ends    func(error) bool
	}{
		"timeout":          {t.Context(), 20 * time.Millisecond, isTimeout},
		"cancelled":        {cancelled, time.Minute, func(err error) bool { return errors.Is(err, context.Canceled) }},
		"cancelled before": {cancelled, time.Minute, func(err error) bool { return errors.Is(err, context.Canceled) }},
		"deadline":         {short, time.Minute, isTimeout},
	} {
		if nc, err := dialAddress(test.ctx, to, test.timeout); err == nil || !test.ends(err) {
			t.Errorf("%s: %v, %v", name, nc, err)
		}
	}
	done := make(chan error)
	go func() {
		nc, err := dialAddress(t.Context(), to, time.Minute)
		if err == nil { // a deadline that was left behind would show
			var one [1]byte
			if _, err = plain(nc).Write(one[:]); err == nil {
				_, err = plain(nc).Read(one[:])
			}
			nc.Close()
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
		l.SetDeadline(time.Now().Add(10 * time.Millisecond))
		if nc, err := l.Accept(); err == nil {
			nc.Write([]byte("x"))
			defer nc.Close()
		}
	}
}

// A socket that connects to itself, as it may where nobody listens, has not found a backend.
func TestDialAddressFindsNotItself(t *testing.T) {
	_, somebody := listenAt(t, "127.0.0.1:0")
	nc, err := dialAddress(t.Context(), somebody, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	to := nc.LocalAddr().(*net.TCPAddr).AddrPort() // one of those that the kernel gives to connections: every other port
	below(nc).(*dialed).SetLinger(0)
	nc.Close()
	for range 200_000 { // it goes through them
		nc, err := dialAddress(t.Context(), to, time.Minute)
		if err == nil {
			nc.Close()
			t.Fatalf("%v is connected to %v", nc.LocalAddr(), nc.RemoteAddr())
		}
		if errors.Is(err, errSelf) {
			return
		}
	}
	t.Errorf("the kernel never chose %v", to)
}

// Names, UNIX sockets and zones are for package net.
func TestWhatIsDialledAsAddress(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1:25": "192.0.2.1:25", "[2001:db8::1]:25": "[2001:db8::1]:25", "[::ffff:192.0.2.1]:25": "192.0.2.1:25",
		"[fe80::1%eth0]:25": "", "mail.example.org:25": "", "localhost:25": "", "192.0.2.1:smtp": "", "unix:/run/mta": "", ":25": "",
	} {
		got := ""
		if literal := literalOf(address); literal.IsValid() {
			got = literal.String()
		}
		if got != want {
			t.Errorf("%s: %q", address, got)
		}
	}
}
