package backend

import (
	"errors"
	"io"
	"strings"
	"syscall"

	"gatepost/proxy/wire"
)

// eager tells whether commands may leave together with the hand-over.
func (s *server) eager() bool { return s.config.Eager && !s.lockStep.Load() }

// Eager tells whether MAIL is to wait for the first recipient, so that both leave in one segment.
func (g *Group) Eager() bool { return g.config.Eager }

// doubtEagerness looks at a failure while the hand-over and what was sent with it are not answered. If the backend may
// have minded that, it gets lock-step from now on. A refusal of the client says 5.7.x: it is none of this.
func (c *Conn) doubtEagerness(r wire.Reply, err error) {
	if !c.eager || c.stale() {
		return
	}
	enhanced := r.Enhanced()
	switch {
	case (r.Code == 554 || r.Code == 521) && (enhanced == "" || strings.HasPrefix(enhanced, "5.5.")):
	case r.Code == 0 && isHangup(err):
	default:
		return
	}
	c.tooEager = true
	reason := shorten(r)
	if r.Code == 0 {
		reason = err.Error()
	}
	if !c.server.lockStep.Swap(true) {
		c.server.log.Warn("backend.eager: the backend does not take commands that come with the hand-over; they wait for its answers from now on",
			"reason", reason, "advice", "Postfix: smtpd_forbid_unauth_pipelining=no, or set backend.eager: off")
	}
}

// isHangup tells whether the backend has closed the connection.
func isHangup(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
