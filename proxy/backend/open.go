package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatepost/proxy/wire"
)

// errTLS marks a handshake that failed.
var errTLS = errors.New("no TLS")

// dial opens a session for the client, on a kept connection if there is one and idle says that it will do.
func (s *server) dial(ctx context.Context, cl Client, idle bool) (*Conn, error) {
	if !idle {
		s.pool.drain()
	}
	l, err := s.pool.get(ctx, s.clock.Now())
	if err != nil {
		return nil, &Error{Address: s.address, Step: "connect",
			Err:    fmt.Errorf("all %d connections are in use: %w", s.config.Connections, err),
			Advice: "raise backend.connections and the backend's own limit, or find out why it is slow"}
	}
	c := &Conn{server: s, client: cl, link: l, kept: l != nil && idle}
	if l != nil {
		err = c.reopen(ctx)
	} else {
		err = c.openNew(ctx)
	}
	switch {
	case err == nil:
		return c, nil
	case c.stale():
		return s.dial(ctx, cl, false)
	}
	return nil, err
}

// openNew connects and opens the session. An opportunistic handshake that fails is left out for a while.
func (c *Conn) openNew(ctx context.Context) error {
	for {
		l, err := c.server.connect(ctx, c.client)
		if err != nil {
			c.leave(nil)
			return c.blame(ctx, err)
		}
		c.link = l
		err = c.open(ctx)
		if c.server.tlsMode != TLSOpportunistic || !errors.Is(err, errTLS) {
			return err
		}
		c.server.noTLS.Store(c.server.clock.Now().Add(tlsRetry).UnixNano())
		c.server.log.Warn("goes on without TLS", "error", err.Error())
		// Close gave the place in the pool away.
		if !c.probing {
			if c.link, err = c.server.pool.get(ctx, c.server.clock.Now()); err != nil {
				return c.blame(ctx, &Error{Address: c.server.address, Step: "connect", Err: err})
			}
			if c.link != nil {
				return c.reopen(ctx)
			}
		}
		c.commands, c.out, c.sent = c.commands[:0], c.out[:0], 0
	}
}

// open speaks from the greeting to the EHLO in the client's name. Where the backend is known to pipeline after XCLIENT,
// the last part is left to the first Reply.
func (c *Conn) open(ctx context.Context) error {
	s := c.server
	if err := c.awaitGreeting(ctx); err != nil {
		return err
	}
	secure := s.tlsMode != TLSNone && s.noTLS.Load() <= s.clock.Now().UnixNano()
	known := s.fresh()
	if xclient := s.config.ClientAddress == XClient; secure || xclient && (known == nil || c.probing) {
		if err := c.introduce(ctx, secure); err != nil {
			return err
		}
		known = nil
	} else if xclient {
		c.offered = known.offered
	}
	if known != nil && s.config.ClientAddress == XClient {
		return c.handOver(ctx, known.extensions)
	}
	return c.handOver(ctx, noExtensions)
}

// introduce asks what the backend takes, and secures the connection.
func (c *Conn) introduce(ctx context.Context, secure bool) error {
	ehlo := []byte("EHLO " + c.server.host)
	c.queue(ehlo, introducing)
	if err := c.settle(ctx); err != nil {
		return err
	}
	if !secure {
		return nil
	}
	if !c.tlsOffered {
		if c.server.tlsMode == TLSOpportunistic {
			return nil
		}
		return c.blame(ctx, c.advise(c.fail("EHLO", errors.New("STARTTLS is not offered")),
			"give the backend a certificate, or set backend.tls"))
	}
	if err := c.startTLS(ctx); err != nil {
		return err
	}
	// RFC 3207, 4.2: what was learned before the handshake is forgotten.
	c.offered = nil
	if c.server.config.ClientAddress != XClient {
		return nil
	}
	c.queue(ehlo, introducing)
	return c.settle(ctx)
}

// reopen prepares a kept connection for its next client.
func (c *Conn) reopen(ctx context.Context) error {
	for range c.link.owed {
		c.commands = append(c.commands, command{verb: [8]byte{'R', 'S', 'E', 'T'}, step: resetting})
	}
	c.sent, c.link.owed = len(c.commands), 0
	c.offered = c.link.ext.XClient
	if c.server.config.ClientAddress == XClient {
		return c.handOver(ctx, c.link.ext)
	}
	if err := c.offer(ctx, c.link.ext); err != nil {
		return err
	}
	if c.pipelining {
		return nil
	}
	return c.settle(ctx)
}

// handOver gives the client's address and name. expected is what the backend will answer to EHLO as far as is known.
func (c *Conn) handOver(ctx context.Context, expected Extensions) error {
	var line [maxCommandLine]byte
	if c.server.config.ClientAddress == XClient {
		if !takesXclient(c.offered) {
			return c.blame(ctx, c.advise(c.fail("EHLO", errors.New("XCLIENT with NAME and ADDR is not offered")), c.server.handOverAdvice()))
		}
		c.queue(appendXclient(line[:0], c.client, c.offered), handingOver)
	}
	if c.server.handsOver() {
		c.queue(appendHello(line[:0], c.client), greeting)
	} else {
		c.queue(append(append(line[:0], "EHLO "...), c.server.host...), greeting)
	}
	if expected.Pipelining && (c.client.Extended || !c.server.handsOver()) {
		return c.offer(ctx, expected)
	}
	return c.settle(ctx)
}

// offer takes e for what the backend offers in this session, unless the client was promised more.
func (c *Conn) offer(ctx context.Context, e Extensions) error {
	c.extensions, c.pipelining = e, e.Pipelining
	if c.client.Promised == nil {
		return nil
	}
	if missing := e.missing(*c.client.Promised); missing != "" {
		return c.advise(c.fail("EHLO", fmt.Errorf("%s was promised to the client and is not offered", missing)),
			"let all backends offer the same, or take it out of backend.extensions")
	}
	return nil
}

func takesXclient(offered []string) bool {
	return slices.Contains(offered, "NAME") && slices.Contains(offered, "ADDR")
}

// awaitGreeting reads the backend's first words.
func (c *Conn) awaitGreeting(ctx context.Context) error {
	unwatch := c.link.watch(ctx)
	c.link.arm(ctx, time.Duration(c.server.config.CommandTimeout))
	r, err := c.link.readReply()
	unwatch()
	switch {
	case err != nil:
		return c.blame(ctx, c.advise(c.fail("greeting", ioError(ctx, err)), c.greetingAdvice()))
	case r.Code == 220:
		return nil
	}
	e := c.failReply("greeting", r, nil)
	switch {
	case r.Class() < 4: // a 2xx or 3xx that is no greeting
	case r.Code == 421 || c.server.config.ClientAddress == XClient || !c.server.handsOver():
		e.Advice = c.greetingAdvice()
	default: // spoken to the client: its address was handed over before
		e.Refused = true
	}
	return c.blame(ctx, e)
}

// greetingAdvice: a PROXY header that is not understood shows here first.
func (c *Conn) greetingAdvice() string {
	if c.server.config.ClientAddress == XClient {
		return ""
	}
	return c.server.handOverAdvice()
}

// settle deals with all that stands in the queue before the caller's commands.
func (c *Conn) settle(ctx context.Context) error {
	for len(c.commands) > 0 && c.commands[0].step != callers {
		if err := c.settleOne(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) settleOne(ctx context.Context) error {
	k, r, err := c.next(ctx)
	switch {
	case err != nil:
		if c.server.config.ClientAddress != XClient { // XCLIENT is refused in words, a PROXY header often by hanging up
			err = c.advise(err, c.server.handOverAdvice())
		}
		return c.blame(ctx, err)
	case k.step == handingOver && r.Code == 220, k.step == resetting && r.Class() == 2, k.step == securing && r.Code == 220:
		return nil
	case k.step == introducing && r.Code == 250:
		e := parseExtensions(r, c.server.config.Extensions)
		c.offered, c.tlsOffered = e.XClient, e.StartTLS
		return nil
	case k.step == greeting && r.Code == 250:
		return c.greeted(ctx, r)
	}
	e := c.failReply(k.name(), r, nil)
	switch {
	case k.step == securing:
		return c.withoutTLS(ctx, e)
	case c.isRefusal(k, r):
		e.Refused = true
	case k.step != introducing || c.server.config.ClientAddress != XClient:
		e.Advice = c.server.handOverAdvice()
	}
	return c.blame(ctx, e)
}

// isRefusal tells the backend's word on this client from a sign that it does not take its address.
func (c *Conn) isRefusal(k command, r wire.Reply) bool {
	if r.Class() < 4 || r.Code == 421 || !c.server.handsOver() {
		return false
	}
	switch k.step {
	case handingOver:
		// XCLIENT_README: 501, 503 and 550 are about the command; anything else is the greeting to the client.
		return r.Code != 500 && r.Code != 501 && r.Code != 502 && r.Code != 503 && r.Code != 550
	case greeting:
		// A PROXY header taken for a command is answered with 500 or 502; Exim answers 503 to all when it missed one.
		return r.Code != 500 && r.Code != 502 && r.Code != 503
	}
	return false
}

// greeted takes the answer to the EHLO or HELO in the client's name.
func (c *Conn) greeted(ctx context.Context, r wire.Reply) error {
	s := c.server
	if !c.client.Extended && s.handsOver() {
		s.works()
		return c.offer(ctx, noExtensions)
	}
	e := parseExtensions(r, s.config.Extensions)
	switch known := s.fresh(); {
	case c.probing || known == nil:
		s.learn(&knowledge{extensions: e, offered: c.offered, seen: s.clock.Now()})
	case !known.extensions.equal(e):
		s.nudge()
	}
	s.works()
	return c.offer(ctx, e)
}

// blame tells the server that it failed, unless it is not its fault, and closes the connection.
func (c *Conn) blame(ctx context.Context, err error) error {
	c.Close()
	var e *Error
	if errors.As(err, &e) && e.Refused || c.stale() || errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	c.server.failed(err)
	return err
}

func (c *Conn) advise(err error, advice string) error {
	var e *Error
	if errors.As(err, &e) && e.Advice == "" {
		e.Advice = advice
	}
	return err
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
