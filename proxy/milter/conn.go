package milter

import (
	"errors"
	"net"
	"os"
	"time"
)

const (
	// idlePatience is how long an MTA may have nothing to say between two commands: as long as its client may take for a
	// message that it only hands over when it is complete. It is libmilter's own (7210 s).
	idlePatience = 2*time.Hour + 10*time.Second
	writeTimeout = 30 * time.Second
)

var (
	errSilent   = errors.New("the MTA was silent for too long")
	errShutdown = errors.New("shutdown")
)

// conn gives every read and write its deadline.
type conn struct {
	net.Conn
	patience time.Duration // of reads
	mustEnd  func() bool   // asked before every wait
}

// Read waits no longer than the patience. An interruption that does not end the session changes nothing.
func (c *conn) Read(p []byte) (int, error) {
	limit := time.Now().Add(c.patience)
	for {
		c.SetReadDeadline(limit)
		// Behind the deadline: an interruption from now on finds it set, one from before has left its reason.
		if c.mustEnd() {
			return 0, errShutdown
		}
		n, err := c.Conn.Read(p)
		switch {
		case n > 0 || !errors.Is(err, os.ErrDeadlineExceeded):
			return n, err
		case !time.Now().Before(limit):
			return 0, errSilent
		}
	}
}

func (c *conn) Write(p []byte) (int, error) {
	c.SetWriteDeadline(time.Now().Add(writeTimeout))
	return c.Conn.Write(p)
}

// interrupt ends a read that waits. It is the only method that others than the session call.
func (c *conn) interrupt() { c.Conn.SetReadDeadline(time.Unix(1, 0)) }
