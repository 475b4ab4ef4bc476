package called

import (
	"context"
	"errors"
	"net"
	"os"
	"time"
)

const (
	// IdlePatience is how long an MTA may have nothing to say between two commands: as long as its client may take for a
	// message that it only hands over when it is complete. It is libmilter's own (7210 s).
	IdlePatience = 2*time.Hour + 10*time.Second
	writeTimeout = 30 * time.Second
)

var (
	errSilent   = errors.New("the MTA was silent for too long")
	errShutdown = errors.New("shutdown")
)

// Conn is a connection of an MTA. Every read and write has its deadline. It belongs to its session's goroutine.
type Conn[L Entry] struct {
	net.Conn
	Entry    *L // under which it has come
	Service  *Service
	Patience time.Duration // of reads
	Note     string        // why the session ends, for the records

	server  *Server[L]
	service *service
	session Session
}

// Base is the context of everything that the session waits for; it ends when Shutdown loses patience.
func (c *Conn[L]) Base() context.Context { return c.server.base }

// mustEnd tells that the session shall not wait for its MTA any more.
func (c *Conn[L]) mustEnd() bool {
	return c.server.killed.Load() || c.server.closing.Load() && !c.session.Busy()
}

// Read waits no longer than the patience. An interruption that does not end the session changes nothing.
func (c *Conn[L]) Read(p []byte) (int, error) {
	limit := time.Now().Add(c.Patience)
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

func (c *Conn[L]) Write(p []byte) (int, error) {
	c.SetWriteDeadline(time.Now().Add(writeTimeout))
	return c.Conn.Write(p)
}

// interrupt ends a read that waits. It is the only method that others than the session call.
func (c *Conn[L]) interrupt() { c.Conn.SetReadDeadline(time.Unix(1, 0)) }
