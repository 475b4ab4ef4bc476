package nowait

import (
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
