package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"time"
)

// errTLS marks a handshake that failed.
var errTLS = errors.New("no TLS")

// secure does STARTTLS if it is offered.
func (c *Conn) secure(ctx context.Context) (secured bool, err error) {
	switch {
	case c.introduced.StartTLS:
		return true, c.startTLS(ctx)
	case c.server.tlsMode == TLSOpportunistic:
		return false, nil
	}
	return false, c.blame(ctx, c.advise(c.fail("EHLO", errors.New("STARTTLS is not offered")),
		"give the backend a certificate, or set backend.tls"))
}

// startTLS secures the connection (RFC 3207).
func (c *Conn) startTLS(ctx context.Context) error {
	c.queue([]byte("STARTTLS"), securing)
	if err := c.settle(ctx); err != nil {
		return err
	}
	if c.link.r != c.link.w {
		// What came in the clear behind the 220 is not the backend's (CVE-2011-0411).
		return c.blame(ctx, c.fail("STARTTLS", errUnasked))
	}
	unwatch := c.link.watch(ctx)
	c.link.arm(ctx, time.Duration(c.server.config.ConnectTimeout))
	secured := tls.Client(c.link.nc, c.server.tls)
	err := secured.HandshakeContext(ctx)
	unwatch()
	if err != nil {
		return c.withoutTLS(ctx, c.fail("STARTTLS", ioError(ctx, err)))
	}
	c.link.nc = secured
	c.link.deadline = time.Time{}
	c.introduced = noExtensions // RFC 3207, 4.2: what was learned before is forgotten
	return nil
}

// withoutTLS is the failure of STARTTLS; if TLS is opportunistic, openNew goes on without.
func (c *Conn) withoutTLS(ctx context.Context, e *Error) error {
	e.Err = errors.Join(errTLS, e.Err)
	e.Advice = "check the backend's certificate, backend.tls and backend.ca"
	if c.server.tlsMode == TLSOpportunistic {
		return e
	}
	return c.blame(ctx, e)
}
