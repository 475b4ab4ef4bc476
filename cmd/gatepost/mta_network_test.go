//go:build mta

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A network is where sockets are opened and processes started: this machine's own, or a namespace.
type network struct {
	host  string      // the address to listen on
	calls chan func() // to the thread that lives in the namespace; nil: no namespace
	id    int         // of that thread
}

var machine = &network{host: "127.0.0.1"}

// do runs f in the network. What f opens or starts stays there.
func (n *network) do(f func()) {
	if n.calls == nil {
		f()
		return
	}
	done := make(chan struct{})
	n.calls <- func() { defer close(done); f() }
	<-done
}

// dial does not look up names, so that it stays in this thread.
func (n *network) dial(address string) (conn net.Conn, err error) {
	n.do(func() { conn, err = net.DialTimeout("tcp", address, 5*time.Second) })
	return conn, err
}

// freePort asks the kernel for an address that nobody uses.
func (n *network) freePort(t *testing.T) string {
	t.Helper()
	var l net.Listener
	var err error
	n.do(func() { l, err = net.Listen("tcp", net.JoinHostPort(n.host, "0")) })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// ip runs the ip of the root in the network.
func (n *network) ip(t *testing.T, arguments string) {
	t.Helper()
	c := exec.Command("/sbin/ip", strings.Fields(arguments)...)
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: mtaRoot(t)}
	c.Dir = "/"
	var output strings.Builder
	c.Stdout, c.Stderr = &output, &output
	var err error
	n.do(func() { err = c.Start() })
	if err == nil {
		err = c.Wait()
	}
	switch {
	case err == nil:
	case kernelLacks.MatchString(output.String()):
		skipWithoutNetworks(t, fmt.Sprintf("ip %s: %s", arguments, strings.TrimSpace(output.String())))
	default:
		t.Fatalf("ip %s: %v\n%s", arguments, err, output.String())
	}
}

// kernelLacks is what ip says where namespaces may be made, but the kernel links none, or knows one table of routes only.
var kernelLacks = regexp.MustCompile(`Operation not (permitted|supported)|Unknown device type|Address family not supported`)

func skipWithoutNetworks(t *testing.T, reason string) {
	t.Helper()
	t.Skipf("no network namespaces for %s: this machine lets nobody make them: %s", t.Name(), reason)
}

// newNamespace makes a network without anything in it. It is gone when the test has ended: nothing but a thread of this
// process and what was started there holds it.
func newNamespace(t *testing.T, host string) *network {
	t.Helper()
	n := &network{host: host, calls: make(chan func())}
	born, gone := make(chan error), make(chan struct{})
	go func() {
		defer close(gone)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and is used for nothing else
		n.id = unix.Gettid()
		err := unix.Unshare(unix.CLONE_NEWNET)
		born <- err
		if err != nil {
			return
		}
		for f := range n.calls {
			f()
		}
	}()
	if err := <-born; err != nil {
		if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EINVAL) {
			skipWithoutNetworks(t, err.Error())
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { close(n.calls); <-gone })
	n.ip(t, "link set lo up")
	return n
}

// hostV6 is the second address of the back.
const hostV6 = "2001:db8:1::2"

// newNetworks are two machines: the mail server's knows no way but through the other one, and that takes all that comes
// from there for its own, so that it can connect in its clients' name (docs/backends.md).
func newNetworks(t *testing.T) (front, back *network) {
	t.Helper()
	front, back = newNamespace(t, "203.0.113.1"), newNamespace(t, "203.0.113.2")
	front.ip(t, fmt.Sprintf("link add name gate type veth peer name gate netns %d", back.id))
	for n, addresses := range map[*network][]string{front: {"203.0.113.1/30", "2001:db8:1::1/64"}, back: {"203.0.113.2/30", hostV6 + "/64"}} {
		for _, address := range addresses {
			n.ip(t, "address add "+address+" dev gate"+map[bool]string{true: " nodad"}[strings.Contains(address, "::")])
		}
		n.ip(t, "link set gate up")
	}
	for family, gateway := range map[string]string{"-4": "203.0.113.1", "-6": "2001:db8:1::1"} {
		back.ip(t, family+" route add default via "+gateway)
		front.ip(t, family+" rule add iif gate lookup 100")
		front.ip(t, family+" route add local default dev lo table 100")
	}
	var filterErr error
	front.do(func() {
		for _, key := range []string{"all", "gate"} {
			if filterErr = os.WriteFile("/proc/sys/net/ipv4/conf/"+key+"/rp_filter", []byte("0"), 0); filterErr != nil {
				return
			}
		}
	})
	switch {
	case filterErr == nil:
	case errors.Is(filterErr, os.ErrPermission), errors.Is(filterErr, unix.EROFS):
		skipWithoutNetworks(t, filterErr.Error())
	default:
		t.Fatal(filterErr)
	}
	return front, back
}
