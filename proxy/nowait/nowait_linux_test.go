package nowait

import (
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

func TestCalls(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	here, there := uintptr(fds[0]), uintptr(fds[1])
	defer syscall.Close(fds[1])
	buf := make([]byte, 8)
	for _, call := range []func(uintptr, []byte) (int, syscall.Errno){Read, Peek} {
		if n, errno := call(there, buf); n != 0 || errno != syscall.EAGAIN {
			t.Errorf("nothing there: %d, %v", n, errno)
		}
	}
	if n, errno := Write(here, []byte("hello")); n != 5 || errno != 0 {
		t.Fatalf("write: %d, %v", n, errno)
	}
	for _, call := range []func(uintptr, []byte) (int, syscall.Errno){Peek, Peek, Read} {
		if n, errno := call(there, buf); string(buf[:n]) != "hello" || errno != 0 {
			t.Errorf("%q, %v", buf[:n], errno)
		}
	}
	if n, errno := WriteBoth(here, []byte("to be "), []byte("continued")); n != 15 || errno != 0 {
		t.Fatalf("write both: %d, %v", n, errno)
	}
	for _, want := range []string{"to be co", "ntinued"} {
		if n, errno := Read(there, buf); string(buf[:n]) != want || errno != 0 {
			t.Errorf("%q, %v", buf[:n], errno)
		}
	}
	var full syscall.Errno
	written := 0
	for full == 0 {
		n := 0
		n, full = Write(here, make([]byte, 1<<16))
		written += n
	}
	if full != syscall.EAGAIN || written == 0 {
		t.Errorf("a full buffer: %v after %d bytes", full, written)
	}
	syscall.Close(fds[0])
	for written > 0 {
		n, errno := Read(there, make([]byte, 1<<16))
		if n == 0 || errno != 0 {
			t.Fatalf("%d bytes missing: %v", written, errno)
		}
		written -= n
	}
	if n, errno := Read(there, buf); n != 0 || errno != 0 {
		t.Errorf("end of the stream: %d, %v", n, errno)
	}
}

func TestEvents(t *testing.T) {
	poller, err := syscall.EpollCreate1(0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(poller)
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fds[0])
	defer syscall.Close(fds[1])
	if err := syscall.EpollCtl(poller, syscall.EPOLL_CTL_ADD, fds[1], &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: 7}); err != nil {
		t.Fatal(err)
	}
	events := make([]syscall.EpollEvent, 2)
	if n := Events(uintptr(poller), events); n != 0 {
		t.Errorf("%d events of a silent socket", n)
	}
	Write(uintptr(fds[0]), []byte("x"))
	if n := Events(uintptr(poller), events); n != 1 || events[0].Fd != 7 {
		t.Errorf("%d events, %+v", n, events[0])
	}
	if n := Events(uintptr(fds[0]), events); n != 0 {
		t.Errorf("%d events of what is no epoll descriptor", n)
	}
}

func TestAccept(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		raw, err := l.(*net.TCPListener).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(listener uintptr) {
			if fd, _, errno := Accept(listener); fd != -1 || errno != syscall.EAGAIN {
				t.Errorf("nobody there: %d, %v", fd, errno)
			}
		})
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fd := -1
		raw.Control(func(listener uintptr) {
			var from netip.AddrPort
			var errno syscall.Errno
			if fd, from, errno = Accept(listener); errno != 0 || from.String() != c.LocalAddr().String() {
				t.Fatalf("from %s, want %s; %v", from, c.LocalAddr(), errno)
			}
		})
		if n, errno := Read(uintptr(fd), make([]byte, 8)); n != 0 || errno != syscall.EAGAIN {
			t.Errorf("an accepted socket waits: %d, %v", n, errno)
		}
		if errno := Close(fd); errno != 0 {
			t.Error(errno)
		}
		if errno := Close(fd); errno != syscall.EBADF {
			t.Errorf("closed twice: %v", errno)
		}
		if n, err := c.Read(make([]byte, 8)); n != 0 || err != io.EOF {
			t.Errorf("the other end: %d, %v", n, err)
		}
	}
}

func TestConnect(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		to := l.Addr().(*net.TCPAddr).AddrPort()
		for _, refused := range []bool{false, true} {
			if refused {
				l.Close()
			}
			fd, errno := Socket(to.Addr().Is6())
			if errno != 0 {
				t.Fatal(errno)
			}
			errno = NoDelay(fd)
			on, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY)
			if errno != 0 || err != nil || on == 0 {
				t.Errorf("no delay: %v, %d, %v", errno, on, err)
			}
			for errno = Connect(fd, to); errno == syscall.EINPROGRESS || errno == syscall.EALREADY; {
				errno = Connect(fd, to)
			}
			if errno != 0 != refused || refused && errno != syscall.ECONNREFUSED {
				t.Errorf("%v, refused %v: %v", to, refused, errno)
			}
			if local := Local(fd); !refused && (local.Addr() != to.Addr() || local.Port() == 0 || local == to) {
				t.Errorf("connected to %v from %v", to, local)
			}
			if !refused {
				nc, err := l.Accept()
				if err != nil || nc.RemoteAddr().String() != Local(fd).String() {
					t.Errorf("%v, not from %v", nc, Local(fd))
				}
				nc.Close()
			}
			Close(fd)
		}
	}
}
