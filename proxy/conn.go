package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

// errAgain says that there is no input now. To crypto/tls it is a temporary error: a record cut short by it is read
// to its end by the next call (anything else would end the TLS session).
var errAgain error = again{}

type again struct{}

func (again) Error() string   { return "no input at hand" }
func (again) Timeout() bool   { return true }
func (again) Temporary() bool { return true }

// lastWords is how long a client may take for its 421 when the proxy has lost patience.
const lastWords = time.Second

// arrival is a connection that was just accepted.
type arrival struct {
	net.Conn        // nil where the descriptor is all there is
	fd          int // for reads and writes that do not wait; -1 where the system has none
	peer, local netip.AddrPort
}

// arrived describes a connection of Go's net package.
func arrived(c net.Conn) arrival {
	return arrival{Conn: c, fd: descriptorOf(c), peer: addrPort(c.RemoteAddr()), local: addrPort(c.LocalAddr())}
}

// conn is a client's TCP connection, and a part of its session. It belongs to the goroutine that runs the session;
// nobody else closes it, which is why the descriptor's number may be used directly.
type conn struct {
	net.Conn          // for what waits
	fd       int      // as in arrival
	session  *session // whose it is
	received uint32   // times that input was taken from the socket
	patient  bool     // Read waits for input until the read deadline
	dry      bool     // the latest read took all there was: whoever waits next need not look first
	ahead    *ahead   // what Read returns first; nil: nothing

	readUntil, writeUntil moment // deadlines of a descriptor; zero: none
}

// ahead is input that was taken from the socket already, and how it ended.
type ahead struct {
	input []byte
	err   error
}

// putBack makes Read return p before anything else.
func (c *conn) putBack(p []byte) {
	input := append([]byte(nil), p...)
	if c.ahead == nil {
		c.ahead = &ahead{input: input}
		return
	}
	c.ahead.input = append(input, c.ahead.input...)
}

// Read takes what has arrived. It returns errAgain if that is nothing, unless the connection is patient.
func (c *conn) Read(p []byte) (int, error) {
	if a := c.ahead; a != nil {
		if len(a.input) > 0 {
			n := copy(p, a.input)
			a.input = a.input[n:]
			return n, nil
		}
		if a.err != nil {
			return 0, a.err
		}
		c.ahead = nil
	}
	switch {
	case c.patient:
		return c.count(c.Conn.Read(p))
	case c.fd < 0:
		return 0, errAgain
	}
	n, err := c.count(readNow(c.fd, p))
	c.dry = n < len(p)
	return n, err
}

func (c *conn) count(n int, err error) (int, error) {
	if n > 0 {
		c.received++
	}
	return n, err
}

// Write sends p. What the socket's buffer takes at once costs no deadline.
func (c *conn) Write(p []byte) (int, error) {
	n := 0
	if c.fd >= 0 {
		n = writeNow(c.fd, p)
		if n == len(p) {
			return n, nil
		}
	}
	if err := c.SetWriteDeadline(time.Now().Add(c.session.patience())); err != nil {
		return n, err
	}
	if c.session.server.killed.Load() { // its interruption may have come before our deadline
		c.SetWriteDeadline(time.Now().Add(lastWords))
	}
	m, err := c.Conn.Write(p[n:])
	return n + m, err
}

// peek waits for input until the deadline and keeps it for Read.
func (c *conn) peek(deadline time.Time) error {
	buf := make([]byte, 4096)
	if err := c.SetReadDeadline(deadline); err != nil {
		return err
	}
	n, err := c.count(c.Conn.Read(buf))
	c.ahead = &ahead{input: buf[:n]}
	if n > 0 {
		return nil
	}
	if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
		c.ahead.err = err
		return nil // Read tells
	}
	return err
}

// hangUp closes the connection from our side. A socket closed with unread input is reset, and a reset may overtake
// the last reply: so say that we are done, and take what the client has sent already.
func (c *conn) hangUp() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil && c.fd >= 0 {
		var waste [4096]byte
		for range 16 {
			if n, err := readNow(c.fd, waste[:]); n == 0 || err != nil {
				break
			}
		}
	}
	c.Conn.Close()
}

var _ io.ReadWriter = (*conn)(nil)
