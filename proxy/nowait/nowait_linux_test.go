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
