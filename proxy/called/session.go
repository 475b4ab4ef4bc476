package called

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime/debug"

	"gatepost/policy/grow"
)

// Session is what a front end does with one connection. All methods are called on the connection's goroutine.
type Session interface {
	// Serve obeys until the connection ends. Its error says why, but for one of the connection itself.
	Serve() error
	// Leave lets go of everything, behind Serve.
	Leave()
	// Busy tells that the session is in the middle of something that a shutdown should wait for.
	Busy() bool
	// Log names the session in what is logged.
	Log() *slog.Logger
}

// drive runs a session to its end. A panic ends this session and no other.
func (c *Conn[L]) drive() {
	defer c.server.retire(c)
	defer c.Close()
	defer c.guard("at the end of a session", c.session.Leave)
	c.guard("in a session", func() {
		grow.Stack()
		c.ended(c.session.Serve())
	})
}

func (c *Conn[L]) guard(where string, f func()) {
	defer func() {
		if p := recover(); p != nil {
			c.server.metrics.Panics.Add(1)
			text := debug.Stack()
			c.session.Log().Error("panic "+where+"; please report it", "panic", p, "stack", string(text[:min(len(text), 8<<10)]))
			c.Note = "internal error"
		}
	}()
	f()
}

// ended says in the log why a session ended that should not have.
func (c *Conn[L]) ended(err error) {
	at := (*c.Entry).Common().Address
	switch {
	case err == nil || errors.Is(err, io.EOF):
	case errors.Is(err, errShutdown):
		c.Note = "shutdown"
	case errors.Is(err, errSilent):
		c.server.metrics.Timeouts.Add(1)
		c.Note = "timeout"
		c.session.Log().Warn("an MTA was silent for too long", c.server.key, at)
	default:
		if _, ok := errors.AsType[net.Error](err); ok { // it went away in its own manner
			return
		}
		c.server.metrics.Violations.Add(1)
		c.Note = "protocol violation"
		c.session.Log().Error("an MTA's session is broken", c.server.key, at, "error", err)
	}
}
