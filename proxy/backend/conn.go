package backend

import (
	"bytes"
	"context"
	"errors"
	"time"

	"gatepost/proxy/wire"
)

// Conn is one session with a backend for one client. It belongs to one goroutine at a time.
//
// Commands wait in a queue for being sent and then for their reply; those of the hand-over stand at its head and are
// dealt with before the caller sees anything.
type Conn struct {
	server     *server
	link       *link // nil after Release or Close
	client     Client
	extensions Extensions
	tried      [maxBackends]bool // backends that need not be tried again for this client
	pipelining bool

	commands []command // whose reply was not read yet, oldest first
	sent     int       // how many of them were sent
	out      []byte    // lines not sent yet
	ahead    [][]byte  // lines that left with the latest message, while nobody has claimed them

	introduced  Extensions // what is offered before the hand-over
	transaction bool       // MAIL was sent and nothing has ended it
	turnedAway  bool       // by a backend on which others of ours are
	kept        bool       // the link has served another client before
	heard       bool       // the backend has answered on it since
	eager       bool       // what follows the hand-over was sent with it, and EHLO has not been answered yet
	tooEager    bool       // the backend would not have that
	flying      int        // bytes sent since all that had been sent was answered
	probing     bool       // it speaks in a stranger's name, and holds no place in the pool
	opening     *opening   // nil: nobody wants to know what it says while the session is opened
}

// command is what is remembered of a line until its reply comes.
type command struct {
	verb [8]byte
	step step
}

// step tells the hand-over's commands from the caller's, which is the zero value.
type step uint8

const (
	callers step = iota
	ahead        // said with a message, see Parts.Next
	resetting
	introducing // EHLO to learn what the backend takes
	securing    // STARTTLS
	handingOver // XCLIENT
	greeting    // EHLO for the client
)

func (k command) name() string { return string(bytes.TrimRight(k.verb[:], "\x00")) }

func (k command) is(verb string) bool { return string(bytes.TrimRight(k.verb[:], "\x00")) == verb }

// endsGroup tells whether nothing may be sent behind the command before it is answered (RFC 2920, 3.1; XCLIENT and
// STARTTLS begin a session anew). Postfix hangs up on clients that do not wait (smtpd_forbid_unauth_pipelining).
func (k command) endsGroup() bool {
	switch string(bytes.TrimRight(k.verb[:], "\x00")) {
	case "MAIL", "RCPT", "RSET":
		return false
	}
	return true // those that the RFC names, and all that nobody knows
}

// Address is the backend's, as configured.
func (c *Conn) Address() string { return c.server.address }

// Extensions is what the backend offers in this session.
func (c *Conn) Extensions() Extensions { return c.extensions }

// Crowded tells that the connections to the backend are all but used up: one that is idle should be given back.
func (c *Conn) Crowded() bool { return c.server.pool.crowded() }

// Queue adds a command line (without CRLF) to the batch. It is copied.
func (c *Conn) Queue(line []byte) { c.queue(line, callers) }

func (c *Conn) queue(line []byte, s step) {
	if c.link == nil {
		return
	}
	if bytes.ContainsAny(line, "\r\n\x00") {
		// The rest would be a command of somebody else's making.
		c.link.broken = true
		return
	}
	if len(c.ahead) > 0 || c.Begun() { // they have begun a transaction that the caller does not know of, or a message
		c.link.broken = true
		return
	}
	c.commands = append(c.commands, commandOf(line, s))
	c.out = append(append(c.out, line...), '\r', '\n')
}

func commandOf(line []byte, s step) command {
	k := command{step: s}
	verb, _, _ := bytes.Cut(line, []byte{' '})
	for i := range min(len(verb), len(k.verb)) {
		k.verb[i] = upper(verb[i])
	}
	return k
}

func upper(b byte) byte {
	if 'a' <= b && b <= 'z' {
		b -= 'a' - 'A'
	}
	return b
}

// Flush sends what of the batch may be sent now, in one write: all up to the end of a group (RFC 2920, 3.1) if the
// backend can pipeline, else the first line if none is under way. It is only needed to send early: Reply does the same.
func (c *Conn) Flush(ctx context.Context) error {
	if c.link == nil {
		return c.fail("batch", errReleased)
	}
	if c.link.broken {
		return c.fail("batch", errClosing)
	}
	defer c.link.watch(ctx)()
	return c.flush(ctx, (*link).write)
}

// flush sends by write, or by ask if an answer is waited for next.
func (c *Conn) flush(ctx context.Context, send func(*link, []byte) error) error {
	if c.sent == 0 {
		c.flying = 0
	}
	batch, count := c.due()
	if len(batch) == 0 {
		return nil
	}
	if c.sent == 0 && c.link.r != c.link.w {
		r, err := c.link.buffered()
		if err != nil {
			err = errUnasked
		}
		return c.failReply(c.commands[0].name(), r, err)
	}
	for _, k := range c.commands[c.sent : c.sent+count] {
		c.transaction = k.is("MAIL") || c.transaction && !k.is("RSET")
		c.link.note(k)
	}
	c.link.arm(ctx, time.Duration(c.server.config.CommandTimeout))
	if err := send(c.link, batch); err != nil {
		return c.writeFailed(ctx, err)
	}
	c.sent += count
	c.flying += len(batch)
	c.out = c.out[:copy(c.out, c.out[len(batch):])]
	return nil
}

// maxFlying bounds the commands that were sent and not answered, in bytes: as much as every socket's send buffer takes at
// once. So a write is never cut short, and no part of a line is left behind when we give up: sendmail executes that.
const maxFlying = 8 << 10

// due is the lines that may be sent now, and how many they are.
func (c *Conn) due() (batch []byte, count int) {
	end := 0
	for i := c.sent; i < len(c.commands); i++ {
		if i > 0 && !(c.pipelining && (c.eager || !c.commands[i-1].endsGroup())) {
			break
		}
		length := bytes.IndexByte(c.out[end:], '\n') + 1
		if i > 0 && c.flying+end+length > maxFlying {
			break
		}
		end += length
		count++
	}
	return c.out[:end], count
}

// writeFailed looks for the reason in what the backend said before it hung up.
func (c *Conn) writeFailed(ctx context.Context, err error) error {
	name := c.commands[0].name()
	c.link.nc.SetReadDeadline(time.Now().Add(graceForLastWord))
	r, e := c.link.readReply()
	c.doubtEagerness(r, errors.Join(err, e))
	if e == nil {
		return c.failReply(name, r, nil)
	}
	return c.fail(name, ioError(ctx, err))
}

// Reply reads the reply to the oldest command in the batch and sends what still waits in it. After a 421 the connection
// is finished: it is returned like every reply, and what follows fails. Any error closes the connection.
func (c *Conn) Reply(ctx context.Context) (wire.Reply, error) {
	if c.link == nil {
		return wire.Reply{}, c.fail("reply", errReleased)
	}
	for len(c.commands) > 0 && c.commands[0].step == ahead {
		if _, _, err := c.next(ctx); err != nil {
			return wire.Reply{}, err
		}
	}
	if err := c.settle(ctx); err != nil {
		return wire.Reply{}, err
	}
	_, r, err := c.next(ctx)
	return r, err
}

// Command sends one command and waits for its reply.
func (c *Conn) Command(ctx context.Context, line []byte) (wire.Reply, error) {
	if c.awaited() {
		return wire.Reply{}, c.fail("command", errUnread)
	}
	c.Queue(line)
	return c.Reply(ctx)
}

// awaited tells whether replies to the caller's own commands are due.
func (c *Conn) awaited() bool {
	return len(c.commands) > 0 && c.commands[len(c.commands)-1].step == callers
}

// next takes the oldest command off the queue and returns its reply.
func (c *Conn) next(ctx context.Context) (command, wire.Reply, error) {
	switch {
	case c.link.broken:
		return command{}, wire.Reply{}, c.fail("command", errClosing)
	case len(c.commands) == 0:
		return command{}, wire.Reply{}, c.fail("reply", errNoCommand)
	}
	k := c.commands[0]
	r, err := wire.Reply{}, wire.ErrIncomplete
	if c.sent > 0 {
		r, err = c.link.buffered()
	}
	if errors.Is(err, wire.ErrIncomplete) {
		r, err = c.wait(ctx)
	}
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			err = c.fail(k.name(), ioError(ctx, err))
		}
		return k, r, err
	}
	c.heard = c.heard || k.step != resetting && r.Code != 421 // which is about the connection
	c.commands = c.commands[:copy(c.commands, c.commands[1:])]
	c.sent--
	c.note(k, r)
	return k, r, nil
}

// wait sends what is due and reads until a reply is complete.
func (c *Conn) wait(ctx context.Context) (wire.Reply, error) {
	defer c.link.watch(ctx)()
	start := c.server.clock.Now()
	send := (*link).write
	if c.sent == 0 { // else an answer may be there already
		send = (*link).ask
	}
	if err := c.flush(ctx, send); err != nil {
		return wire.Reply{}, err
	}
	c.link.arm(ctx, time.Duration(c.server.config.CommandTimeout))
	r, err := c.link.readReply()
	took := c.server.clock.Now().Sub(start)
	if err == nil && r.Class() >= 4 && took >= lateRefusal {
		c.link.late = true
	}
	if !c.probing {
		c.server.counters.exchange.Observe(took)
	}
	return r, err
}

// note keeps account of what a reply means for the connection.
func (c *Conn) note(k command, r wire.Reply) {
	switch {
	case r.Code == 421: // RFC 5321, 3.8: it may come at any time and is the last
		c.link.broken = true
	case r.Class() >= 4:
		c.link.errors++
		c.link.broken = c.link.broken || k.is("RSET") // nobody knows what is left of the transaction
	}
}

// stale tells that a kept connection died before it was of use to this client.
func (c *Conn) stale() bool { return c.kept && !c.heard }

// again tells that the failure says nothing about the backend: a new connection to the same one may do.
func (c *Conn) again() bool { return c.stale() || c.tooEager }

// fail closes the connection and says why.
func (c *Conn) fail(step string, err error) *Error { return c.failReply(step, wire.Reply{}, err) }

func (c *Conn) failReply(step string, r wire.Reply, err error) *Error {
	c.Close()
	return &Error{Address: c.server.address, Step: step, Reply: r, Err: err}
}

// Close drops the connection at once. It may be called more than once.
func (c *Conn) Close() {
	if c.link == nil {
		return
	}
	if c.Begun() {
		c.link.abort()
	}
	c.link.close()
	c.leave(nil)
}

// Release gives the connection back: kept for the next client where reuse is allowed, after RSET if a transaction is open,
// else QUIT. It does not wait for the backend.
func (c *Conn) Release() {
	l := c.link
	if l == nil {
		return
	}
	if len(c.commands) > 0 || l.broken || l.r != l.w {
		c.Close()
		return
	}
	if !c.reusable() || c.extensions.Limits.Mail > 0 { // each client was told how many transactions it may have
		l.quit()
		c.leave(nil)
		return
	}
	if c.transaction {
		l.nc.SetWriteDeadline(time.Now().Add(time.Second))
		l.deadline = time.Time{}
		if _, err := l.nc.Write([]byte("RSET\r\n")); err != nil {
			c.Close()
			return
		}
		l.owed++
		l.nonMail++
	}
	l.uses++
	l.ext = c.extensions
	l.idleSince = c.server.clock.Now()
	c.leave(l)
}

// reusable tells whether another client may follow on the same connection.
func (c *Conn) reusable() bool {
	l := c.link
	if !c.server.config.Reuse || c.probing || c.client.Login != "" || l.authenticated ||
		l.errors >= maxErrors || l.late || l.nonMail >= maxNonMail || l.uses >= maxUses {
		return false
	}
	switch c.server.config.ClientAddress {
	case XClient: // offered again after the hand-over: it may be repeated
		return takesXclient(c.extensions.XClient)
	case NoAddress:
		return true
	}
	return false // the address belongs to the connection
}

// leave gives up the link, and with it the place in the pool, to which a link that can be used again goes.
func (c *Conn) leave(l *link) {
	c.link = nil
	if !c.probing {
		c.server.pool.put(l)
	}
}
