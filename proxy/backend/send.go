package backend

import (
	"context"
	"io"
	"strconv"
	"sync"
	"time"

	"gatepost/proxy/wire"
)

const (
	// blockSize is the size of a write of message data. A message that fits leaves in one write, command included.
	blockSize = 64 << 10
	// wholeBlock is the most that is copied to be written with other pieces: a copy of more costs more than a system call.
	wholeBlock = 32 << 10
	// graceForLastWord is how long the reason for a broken connection is waited for: it is there already, or never comes.
	graceForLastWord = time.Second
	// dataTimeout is the longest time for the answer to DATA (RFC 5321, 4.5.3.2.4).
	dataTimeout = 2 * time.Minute
)

// Parts is a message to be sent: prepended fields, then the body.
type Parts struct {
	Prepend []byte
	// Body writes the message itself. It may write in pieces of any size; small ones are gathered.
	Body io.WriterTo
	// Size in bytes of all. The body must be exactly the rest: else nothing is completed, and the backend gets nothing.
	Size int64
	// Binary tells that MAIL had BODY=BINARYMIME: it takes BDAT (RFC 3030, 3).
	Binary bool
	// Next is MAIL and RCPT of the next transaction, without CRLF, to leave with a small message where the backend allows
	// that: see [Conn.Claim]. Who gives them has to look whether they were said by [Conn.Disclaim] or Claim before anything
	// else is queued. Behind them may stand DATA, which leaves only where there is no CHUNKING: see [Conn.Begun]. They are
	// kept.
	Next [][]byte
}

// SendMessage transfers the message in one BDAT … LAST where the backend offers CHUNKING, else with DATA, and waits for
// the final reply: finalWait long, or final_timeout if it is 0, and no longer than ctx lives.
//
// A refusal to DATA, and one that comes before the message was sent whole, are the final reply. When err is not nil,
// dotSent tells whether the end of the message may have reached the backend: then it may have been delivered, and must
// not be sent again by us; otherwise it can go elsewhere.
func (c *Conn) SendMessage(ctx context.Context, p Parts, finalWait time.Duration) (r wire.Reply, dotSent bool, err error) {
	switch begun := c.Begun(); {
	case c.link == nil:
		return r, false, c.fail("message", errReleased)
	case c.link.broken:
		return r, false, c.fail("message", errClosing)
	case len(c.commands) > 0 && !(begun && len(c.commands) == 1):
		return r, false, c.fail("message", errUnread)
	case p.Binary && !c.extensions.Chunking:
		return r, false, c.fail("message", errNeedsBDAT)
	case !begun && !c.silent():
		return r, false, c.lastWord(ctx)
	}
	if finalWait <= 0 {
		finalWait = time.Duration(c.server.config.FinalTimeout)
	}
	started := time.Now()
	defer func() {
		if err == nil {
			c.server.counters.message.Observe(time.Since(started))
		} else {
			c.server.counters.lost.Add(1)
		}
	}()
	defer c.link.watch(ctx)()
	if !c.extensions.Chunking {
		if r, err := c.startData(ctx); err != nil || r.Class() != 3 {
			return r, false, err
		}
	}
	out := newOutlet(ctx, c.link, p.Size, time.Duration(c.server.config.BlockTimeout), finalWait)
	defer out.free()
	p.Next = c.following(p)
	if c.extensions.Chunking {
		err = out.sendBDAT(p)
	} else {
		err = out.sendData(p)
	}
	r, replyErr := out.finalReply(err)
	r, dotSent, err = c.concluded(ctx, r, out.ended, err, replyErr)
	if c.link != nil && err == nil {
		c.saidAhead(p)
	}
	return r, dotSent, err
}

// silent tells that the backend is there and has said nothing that would pass for the answer to the message: one that is
// written into a dead connection cannot be told from one that was taken.
func (c *Conn) silent() bool { return c.link.r == c.link.w && c.link.alive() }

// lastWord is why the backend has hung up, or spoken without being asked, before the message.
func (c *Conn) lastWord(ctx context.Context) error {
	c.link.nc.SetReadDeadline(time.Now().Add(graceForLastWord))
	r, err := c.link.readReply()
	if err != nil {
		return c.fail("message", ioError(ctx, err))
	}
	return c.failReply("message", r, errUnasked)
}

// startData asks for the go-ahead of DATA, if that was not done ahead. Any other answer is a refusal.
func (c *Conn) startData(ctx context.Context) (wire.Reply, error) {
	begun := c.Begun()
	if !begun {
		c.queue([]byte("DATA"), callers)
		if err := c.flush(ctx, (*link).ask); err != nil {
			return wire.Reply{}, err
		}
	}
	c.link.arm(ctx, min(dataTimeout, time.Duration(c.server.config.CommandTimeout)))
	r, err := c.link.readReply()
	if err != nil {
		return r, c.fail("DATA", ioError(ctx, err))
	}
	c.commands, c.sent = c.commands[:0], 0
	c.note(command{}, r)
	switch {
	case begun && !c.silent(): // since then there was time enough to go away
		return r, c.lastWord(ctx)
	case r.Code == 354, r.Class() >= 4 && r.Code != 421:
		return r, nil
	}
	return r, c.failReply("DATA", r, nil)
}

// concluded turns what happened into SendMessage's answer.
func (c *Conn) concluded(ctx context.Context, r wire.Reply, ended bool, sendErr, replyErr error) (wire.Reply, bool, error) {
	switch {
	case sendErr == nil && replyErr == nil:
		c.transaction = false
		c.link.nonMail = 0
		c.note(command{}, r)
		return r, true, nil
	case sendErr == nil:
		return wire.Reply{}, ended, c.fail("message", ioError(ctx, replyErr))
	case replyErr == nil && r.Class() >= 4 && r.Code != 421:
		// It refused before it had all: we cannot stop in the middle but by hanging up.
		c.link.abort()
		c.Close()
		return r, ended, nil
	}
	if !ended {
		c.link.abort()
	}
	switch {
	case replyErr == nil:
		return wire.Reply{}, ended, c.failReply("message", r, errEarlyReply)
	}
	return wire.Reply{}, ended, c.fail("message", ioError(ctx, sendErr))
}

// outlet writes a message in large pieces and knows when its end leaves. A message of more than one piece is watched: a
// backend may refuse it (552), or close (421), before it has read all, and then stop reading.
type outlet struct {
	ctx     context.Context
	link    *link
	timeout time.Duration // for one block
	wait    time.Duration // for the final reply
	left    int64         // bytes of the message that are still to come
	ended   bool          // the end of the message may have reached the backend

	gathered []byte // BDAT: not written yet
	buffer   *[]byte
	writeErr error // of the connection, not of the message's source

	early chan struct{} // closed when the reply is here; nil if nobody reads while we write
	done  chan struct{} // closed when the reader has ended
	reply wire.Reply    // valid when early is closed
	err   error         // valid when early is closed
}

var blocks = sync.Pool{New: func() any { b := make([]byte, 0, blockSize); return &b }}

func newOutlet(ctx context.Context, l *link, size int64, timeout, wait time.Duration) *outlet {
	o := &l.outlet // one at a time, and free waits for all who use it
	*o = outlet{ctx: ctx, link: l, timeout: timeout, wait: wait, left: size, buffer: blocks.Get().(*[]byte)}
	o.gathered = (*o.buffer)[:0]
	l.deadline = time.Time{} // read and write deadlines go their own ways now
	if size > blockSize/2 {
		o.early, o.done = make(chan struct{}), make(chan struct{})
		l.nc.SetReadDeadline(time.Time{})
		go o.listen()
	}
	return o
}

// free ends the reader if nobody has waited for it, as when a panic comes through: the link is its own until then. It keeps
// nothing: a link that waits would hold a block that the pool has given up.
func (o *outlet) free() {
	if o.done != nil {
		select {
		case <-o.done:
		default:
			o.link.nc.SetReadDeadline(time.Unix(1, 0))
			<-o.done
		}
	}
	blocks.Put(o.buffer)
	*o = outlet{}
}

// listen reads the reply and stops a write that the backend no longer reads. finalReply waits for it.
func (o *outlet) listen() {
	defer close(o.done)
	o.reply, o.err = o.link.readReply()
	close(o.early)
	o.link.nc.SetWriteDeadline(time.Unix(1, 0))
}

// finalReply waits for the reply, or, when sending failed, for the backend's last word on that.
func (o *outlet) finalReply(sendErr error) (wire.Reply, error) {
	if sendErr == nil && o.early == nil {
		return o.link.readReply() // writeLast has set its deadline
	}
	wait := o.wait
	switch {
	case o.writeErr != nil:
		wait = graceForLastWord
	case sendErr != nil: // it is not the backend's fault and it has nothing to say
		wait = 0
	}
	o.link.nc.SetReadDeadline(o.after(wait))
	if o.ctx.Err() != nil { // the interrupt may have come before this deadline
		o.link.interrupt()
	}
	if o.early == nil {
		return o.link.readReply()
	}
	<-o.done
	return o.reply, o.err
}

// after is the time from now, but no later than ctx ends.
func (o *outlet) after(wait time.Duration) time.Time {
	t := time.Now().Add(wait)
	if d, ok := o.ctx.Deadline(); ok && d.Before(t) {
		return d
	}
	return t
}

// writeLast sends the end of a message whose reply nobody waits for yet, with that wait prepared: see [link.ask].
func (o *outlet) writeLast(p []byte) error {
	o.link.nc.SetReadDeadline(o.after(o.wait))
	if o.ctx.Err() != nil {
		return o.ctx.Err()
	}
	written := o.link.begin(p)
	if written == len(p) || o.link.failed != nil {
		return nil
	}
	o.link.nc.SetWriteDeadline(o.after(o.timeout))
	if o.ctx.Err() != nil { // the interrupt may have come before this deadline
		return o.ctx.Err()
	}
	o.writeErr = o.link.write(p[written:])
	return o.writeErr
}

// write sends what was gathered and p.
func (o *outlet) write(p []byte) error {
	defer func() { o.gathered = o.gathered[:0] }()
	if o.ended && o.early == nil {
		if len(p) == 0 {
			p = o.gathered
		} else if len(o.gathered) > 0 {
			p = append(o.gathered, p...)
		}
		return o.writeLast(p)
	}
	o.link.nc.SetWriteDeadline(o.after(o.timeout))
	if o.ctx.Err() != nil {
		return o.ctx.Err()
	}
	select {
	case <-o.early: // nil, and never ready, for a message of one piece
		o.writeErr = errEarlyReply
		return errEarlyReply
	default:
	}
	switch {
	case len(p) == 0:
		o.writeErr = o.link.write(o.gathered)
	case len(o.gathered) == 0:
		o.writeErr = o.link.write(p)
	default:
		o.writeErr = o.link.writeBoth(o.gathered, p)
	}
	return o.writeErr
}

// sendBDAT sends the message as one last chunk (RFC 3030, 2). Its end is its last byte.
func (o *outlet) sendBDAT(p Parts) error {
	o.gathered = append(o.gathered, "BDAT "...)
	o.gathered = strconv.AppendInt(o.gathered, p.Size, 10)
	o.gathered = append(o.gathered, " LAST\r\n"...)
	if err := p.writeTo((*chunk)(o)); err != nil {
		return err
	}
	if o.left > 0 {
		return errTooShort
	}
	o.ended = true
	o.gatherLines(p.Next)
	if len(o.gathered) == 0 {
		return nil
	}
	return o.write(nil)
}

func (o *outlet) gatherLines(lines [][]byte) {
	for _, line := range lines {
		o.gathered = append(append(o.gathered, line...), '\r', '\n')
	}
}

func (p Parts) writeTo(w io.Writer) error {
	if _, err := w.Write(p.Prepend); err != nil {
		return err
	}
	_, err := p.Body.WriteTo(w)
	return err
}

// chunk is an outlet that gathers and writes bytes as they are.
type chunk outlet

// Write never lets the announced size be exceeded: what follows it would be commands.
func (w *chunk) Write(p []byte) (int, error) {
	o := (*outlet)(w)
	if int64(len(p)) > o.left {
		return 0, errTooLong
	}
	o.left -= int64(len(p))
	if len(p) <= wholeBlock && len(o.gathered)+len(p) <= cap(o.gathered) {
		o.gathered = append(o.gathered, p...)
		return len(p), nil
	}
	o.ended = o.left == 0
	if err := o.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// sendData sends the message as DATA wants it. Its end is the dot, which the stuffer writes in one piece with what goes
// before it.
func (o *outlet) sendData(p Parts) error {
	stuffer := wire.NewStuffer(dataBlocks{o, p.Next})
	if err := p.writeTo(counted{o, stuffer}); err != nil {
		return err
	}
	if o.left > 0 {
		return errTooShort
	}
	o.ended = true
	return stuffer.End()
}

// counted holds what goes into the stuffer against the announced size.
type counted struct {
	o *outlet
	w io.Writer
}

func (c counted) Write(p []byte) (int, error) {
	if int64(len(p)) > c.o.left {
		return 0, errTooLong
	}
	c.o.left -= int64(len(p))
	return c.w.Write(p)
}

// dataBlocks writes the stuffer's blocks, and with the last one what goes with it.
type dataBlocks struct {
	o    *outlet
	next [][]byte
}

func (w dataBlocks) Write(p []byte) (int, error) {
	block := p
	if w.o.ended && len(w.next) > 0 {
		w.o.gathered = append(w.o.gathered, p...)
		w.o.gatherLines(w.next)
		block = nil
	}
	if err := w.o.write(block); err != nil {
		return 0, err
	}
	return len(p), nil
}
