package backend

import (
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"gatepost/proxy/nowait"
)

// dialAddress connects to one address without zone, until ctx ends and no longer than timeout.
//
// Package net makes seven system calls for that, all on the scheduler's account (package nowait), and waits for the
// connection although a backend on the same machine has taken it when connect returns. Where no connection is used again, a
// message takes 6 to 10 % less processor time without, and a timer slack of 1 ms (TimerSlackNSec), which takes 4 % off
// otherwise, takes nothing off this.
func dialAddress(ctx context.Context, to netip.AddrPort, timeout time.Duration) (net.Conn, error) {
	d := &dialed{remote: to}
	if err := d.connect(ctx, timeout); err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: d.RemoteAddr(), Err: err}
	}
	return d, nil
}

// dialed is a TCP connection that package net knows nothing of.
type dialed struct {
	*os.File      // for waiting and deadlines
	local, remote netip.AddrPort
}

var _ net.Conn = (*dialed)(nil)

func (d *dialed) connect(ctx context.Context, timeout time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	fd, errno := nowait.Socket(d.remote.Addr().Is6())
	if errno != 0 {
		return os.NewSyscallError("socket", errno)
	}
	nowait.NoDelay(fd)
	errno = nowait.Connect(fd, d.remote)
	if errno == syscall.EINPROGRESS { // it may have been taken meanwhile
		errno = nowait.Connect(fd, d.remote)
	}
	if errno != 0 && errno != syscall.EALREADY {
		nowait.Close(fd)
		return os.NewSyscallError("connect", errno)
	}
	d.File = os.NewFile(uintptr(fd), "backend")
	var err error
	if errno != 0 {
		err = d.await(ctx, timeout)
	}
	if d.local = nowait.Local(fd); err == nil && d.local == d.remote {
		err = errSelf
	}
	if err != nil {
		d.Close()
	}
	return err
}

// errSelf: where nobody listens, the port that the kernel chose for us may be that of the backend, and a socket that
// connects to itself succeeds (RFC 9293, 3.5: simultaneous open). That is refused like the others.
var errSelf = os.NewSyscallError("connect", syscall.ECONNREFUSED)

// await waits for a connection that takes its time.
func (d *dialed) await(ctx context.Context, timeout time.Duration) error {
	at := time.Now().Add(timeout)
	if t, ok := ctx.Deadline(); ok && t.Before(at) {
		at = t
	}
	raw, err := d.SyscallConn()
	if err != nil {
		return err
	}
	if err := d.SetWriteDeadline(at); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { d.SetWriteDeadline(time.Unix(1, 0)) })
	errno := syscall.EALREADY
	err = raw.Write(func(fd uintptr) bool {
		errno = nowait.Connect(int(fd), d.remote)
		return errno != syscall.EALREADY
	})
	switch {
	case !stop(): // its deadline could meet the first command
		return context.Cause(ctx)
	case err != nil:
		return err
	case errno != 0:
		return os.NewSyscallError("connect", errno)
	}
	return d.SetWriteDeadline(time.Time{})
}

// SetLinger is as that of a [net.TCPConn], for 0 and more seconds.
func (d *dialed) SetLinger(seconds int) error {
	raw, err := d.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1, Linger: int32(seconds)})
	})
	if err != nil {
		return err
	}
	return os.NewSyscallError("setsockopt", failed)
}

// LocalAddr implements [net.Conn].
func (d *dialed) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(d.local) }

// RemoteAddr implements [net.Conn].
func (d *dialed) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(d.remote) }
