package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"gatepost/proxy/wire"
)

// How a session may be had.
type manner struct {
	fresh   bool // on a new connection: a kept one was found dead
	patient bool // there is no other backend to go to: wait where too many of our connections are the trouble
}

// dial opens a session for the client, on a kept connection if there is one.
func (s *server) dial(ctx context.Context, cl Client, how manner) (*Conn, error) {
	if how.fresh {
		s.pool.drain()
	}
	l, err := s.pool.get(ctx, s.clock.Now())
	if err != nil {
		return nil, &Error{Address: s.address, Step: "connect",
			Err:    fmt.Errorf("all %d connections are in use: %w", s.pool.bound(), err),
			Advice: "raise backend.connections and the backend's own limit, or find out why it is slow"}
	}
	c := &Conn{server: s, client: cl, link: l, kept: l != nil && !how.fresh}
	if l != nil {
		err = c.reopen(ctx)
	} else {
		err = c.openNew(ctx)
	}
	switch {
	case err == nil:
		return c, nil
	case c.stale():
		how.fresh = true
		return s.dial(ctx, cl, how)
	case c.turnedAway && how.patient && sleep(ctx, jitter(turnedAwayPause)):
		if c, again := s.dial(ctx, cl, how); again == nil || ctx.Err() == nil {
			return c, again
		}
	}
	return nil, err
}

// turnedAwayPause is for the backend to notice that others of our connections have ended.
const turnedAwayPause = 50 * time.Millisecond

// sleep tells whether the time has passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
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
		c.server.noTLS.set(c.server.clock.Now().Add(tlsRetry))
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

// open speaks from the greeting to the EHLO in the client's name. With `eager`, where the backend is known to pipeline, the
// last part is left to the first Reply.
func (c *Conn) open(ctx context.Context) error {
	s := c.server
	if err := c.awaitGreeting(ctx); err != nil {
		return err
	}
	introduced, secure := false, s.wantsTLS()
	if secure {
		if err := c.introduce(ctx); err != nil {
			return err
		}
		secured, err := c.secure(ctx)
		if err != nil {
			return err
		}
		introduced = !secured
	}
	xclient, expected := s.config.ClientAddress == XClient, noExtensions
	known := s.fresh()
	if known != nil && !c.probing && !secure {
		expected = known.extensions
	} else {
		known = nil
	}
	switch {
	case introduced && !xclient:
		return c.greeted(ctx, c.introduced)
	case !introduced && xclient && known != nil:
		c.introduced = Extensions{XClient: known.offered}
	case !introduced && xclient:
		if err := c.introduce(ctx); err != nil {
			return err
		}
	}
	return c.handOver(ctx, expected)
}

// introduce asks what the backend takes. The name is already the client's where that is the last EHLO: OpenSMTPD answers
// 503 to another.
func (c *Conn) introduce(ctx context.Context) error {
	if c.server.config.ClientAddress == XClient {
		c.queue([]byte("EHLO "+c.server.host), introducing)
	} else {
		client := c.client
		client.Extended = true
		c.queue(c.hello(nil, client), introducing)
	}
	return c.settle(ctx)
}

// hello writes EHLO or HELO in the client's name, or in ours where we are the client.
func (c *Conn) hello(dst []byte, client Client) []byte {
	if c.server.handsOver() {
		return appendHello(dst, client)
	}
	return append(append(dst, "EHLO "...), c.server.host...)
}

// reopen prepares a kept connection for its next client.
func (c *Conn) reopen(ctx context.Context) error {
	for range c.link.owed {
		c.commands = append(c.commands, command{verb: [8]byte{'R', 'S', 'E', 'T'}, step: resetting})
	}
	c.sent, c.link.owed = len(c.commands), 0
	c.introduced, c.pipelining = c.link.ext, c.link.ext.Pipelining
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
		if !takesXclient(c.introduced.XClient) {
			return c.blame(ctx, c.advise(c.fail("EHLO", errors.New("XCLIENT with NAME and ADDR is not offered")), c.server.handOverAdvice()))
		}
		c.queue(appendXclient(line[:0], c.client, c.introduced.XClient), handingOver)
	}
	c.queue(c.hello(line[:0], c.client), greeting)
	if c.server.eager() && expected.Pipelining && c.client.Extended {
		c.eager = true
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
	if !c.probing && (r.Code == 421 || isHangup(err)) {
		c.turnedAway = c.server.turnsAway()
	}
	switch {
	case err != nil:
		return c.blame(ctx, c.advise(c.fail("greeting", ioError(ctx, err)), c.greetingAdvice()))
	case r.Code == 220:
		c.opening.greeted(r)
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
		c.doubtEagerness(wire.Reply{}, err)
		if c.server.config.ClientAddress != XClient { // XCLIENT is refused in words, a PROXY header often by hanging up
			err = c.advise(err, c.server.handOverAdvice())
		}
		return c.blame(ctx, err)
	case k.step == handingOver && r.Code == 220, k.step == resetting && r.Class() == 2, k.step == securing && r.Code == 220:
		return nil
	case k.step == introducing && r.Code == 250:
		c.opening.introduced(r)
		c.introduced = parseExtensions(r, c.server.config.Extensions)
		return nil
	case k.step == greeting && r.Code == 250:
		c.opening.introduced(r)
		return c.greeted(ctx, parseExtensions(r, c.server.config.Extensions))
	}
	c.doubtEagerness(r, nil)
	e := c.failReply(k.name(), r, nil)
	switch {
	case c.tooEager:
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
	if k.step == introducing && c.server.config.ClientAddress != XClient {
		k.step = greeting
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

// greeted takes what the answer to the last EHLO offers; to HELO that is nothing.
func (c *Conn) greeted(ctx context.Context, e Extensions) error {
	s := c.server
	c.eager = false
	if !c.client.Extended && s.handsOver() {
		s.works()
		return c.offer(ctx, noExtensions)
	}
	switch known := s.fresh(); {
	case c.probing || known == nil:
		s.learn(&knowledge{extensions: e, offered: c.introduced.XClient, seen: s.clock.Now()})
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
	switch {
	case errors.As(err, &e) && e.Refused, errors.Is(err, errFamily), c.again(), c.turnedAway, errors.Is(ctx.Err(), context.Canceled):
		return err
	case c.server.config.ClientAddress == Transparent && !c.probing && fromNowhere(e):
		c.server.nudge() // there may be no way back to this client's address: a stranger's session will show
		return err
	}
	c.server.failed(err)
	return err
}

// fromNowhere tells that a connection may have failed for the address that it was to come from.
func fromNowhere(e *Error) bool {
	var n net.Error
	return e != nil && e.Step == "connect" && (errors.As(e.Err, &n) && n.Timeout() || errors.Is(e.Err, syscall.EINVAL))
}

func (c *Conn) advise(err error, advice string) error {
	var e *Error
	if errors.As(err, &e) && e.Advice == "" {
		e.Advice = advice
	}
	return err
}
