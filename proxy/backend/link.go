package backend

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"gatepost/policy/deadline"
	"gatepost/proxy/wire"
)

// Bounds of a reply. RFC 5321, 4.5.3.1.5 asks for 512 bytes a line; servers write more.
const (
	maxReplyLine  = 2048
	maxReplyLines = 128
	maxReplySize  = 64 << 10
	readBuffer    = 4 << 10
)

// link is one connection to a backend. It belongs to one goroutine at a time.
type link struct {
	nc       net.Conn
	buf      []byte // what was read is buf[r:w]
	r, w     int
	deadline time.Time // as set on nc
	quiet    time.Time // when it was last seen that nothing more is there
	failed   error     // what the next read fails with
	broken   bool      // not to be used for another command

	authenticated bool // AUTH was sent on it

	errors    int        // error replies since it was opened: backends count them too and close at a limit
	late      bool       // an error reply was late: the next one may come later still
	nonMail   int        // commands since the last message that do not belong to one: these are counted, too
	uses      int        // clients served so far
	ext       Extensions // as seen by the last client
	owed      int        // replies to RSET that were not waited for
	idleSince time.Time

	outlet outlet // of the message that is being sent

	interrupt func() // ends all waiting, as a value so that it is allocated once
	watched   context.Context
	unwatch   func() bool // stops looking out for the end of watched; nil: nobody does
}

var readBuffers = sync.Pool{New: func() any { b := make([]byte, readBuffer); return &b }}

func newLink(nc net.Conn) *link {
	l := &link{nc: plain(nc), buf: *readBuffers.Get().(*[]byte)}
	l.interrupt = func() { nc.SetDeadline(time.Unix(1, 0)) } // TLS over it has no deadlines of its own
	return l
}

// note keeps account of a command that is sent.
func (l *link) note(k command) {
	switch {
	case k.is("AUTH"):
		l.authenticated = true
	case k.is("MAIL"), k.is("RCPT"), k.is("XCLIENT"):
	default:
		l.nonMail++
	}
}

// abort drops the connection in the middle of a message. A TCP peer gets an error instead of the end of the stream, which
// it could take for the end of the message.
func (l *link) abort() {
	nc := below(l.nc)
	if tcp, ok := nc.(interface{ SetLinger(seconds int) error }); ok {
		tcp.SetLinger(0)
	}
	nc.Close() // without TLS's own end of the stream
	l.close()
}

// close drops the connection at once.
func (l *link) close() {
	if l.buf == nil {
		return
	}
	l.broken = true
	l.watchNobody()
	l.nc.Close()
	if cap(l.buf) == readBuffer {
		b := l.buf[:readBuffer]
		readBuffers.Put(&b)
	}
	l.buf = nil
}

// quit says goodbye without waiting for the answer (RFC 5321, 4.1.1.10 wants a client to wait; nothing depends on it).
func (l *link) quit() {
	if !l.broken {
		l.nc.SetWriteDeadline(time.Now().Add(time.Second))
		l.nc.Write([]byte("QUIT\r\n"))
	}
	l.close()
}

// arm sets the deadline for what follows: the earlier of ctx's and timeout from now. A second more or less is not worth
// the call.
func (l *link) arm(ctx context.Context, timeout time.Duration) {
	t := time.Now().Add(timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(t) {
		t = d
	}
	if slack := l.deadline.Sub(t); slack > 0 || slack < -time.Second {
		l.deadline = t
		l.nc.SetDeadline(t)
	}
	if ctx.Err() != nil { // watch's interrupt may have come before this deadline
		l.interrupt()
	}
}

// watch makes the end of ctx end all waiting on the connection. The result must be called when the wait is over.
//
// Of a command's own context only the parent, which ends with the proxy, is looked out for, and from one wait to the next:
// arm knows the deadline, and a timer and an entry in the parent for every wait took 4 % of the processor's time.
func (l *link) watch(ctx context.Context) (unwatch func()) {
	if own, ok := ctx.(*deadline.Context); ok {
		l.watchAlways(own.Parent())
		return func() {}
	}
	if ctx.Done() == nil || ctx == l.watched {
		return func() {}
	}
	stop := context.AfterFunc(ctx, l.interrupt)
	return func() {
		if !stop() { // the interrupt runs or ran: its deadline would meet the next command
			l.broken = true
		}
	}
}

// watchAlways looks out for the end of ctx until the connection is closed, or watched for another.
func (l *link) watchAlways(ctx context.Context) {
	if l.watched == ctx {
		return
	}
	l.watchNobody()
	if ctx.Done() != nil {
		l.watched, l.unwatch = ctx, context.AfterFunc(ctx, l.interrupt)
	}
}

func (l *link) watchNobody() {
	if l.unwatch != nil && !l.unwatch() {
		l.broken = true
	}
	l.watched, l.unwatch = nil, nil
}

func (l *link) write(p []byte) error {
	_, err := l.nc.Write(p)
	return err
}

// ask writes p and waits for what is answered, which buffered finds then. Errors of reading are kept for the next read.
//
// A read before the wait finds nothing but costs a system call: without it a message takes 43 of them instead of 46, and 4
// to 10 % less processor time. It is left out where the backend was silent a moment ago: a last word of its own accord in
// between, without hanging up, is noticed with the answer or when the time is over.
func (l *link) ask(p []byte) error {
	if written := l.begin(p); written < len(p) && l.failed == nil {
		return l.write(p[written:])
	}
	return nil
}

// begin is ask for as much of p as leaves at once; nothing, if there may be something to read first.
func (l *link) begin(p []byte) (written int) {
	s, ok := l.nc.(converser)
	if !ok || l.r != l.w || time.Since(l.quiet) > quietEnough {
		return 0
	}
	l.r, l.w = 0, 0
	written, n, err := s.converse(p, l.buf)
	if l.w, l.failed = n, err; 0 < n && n < len(l.buf) {
		l.quiet = time.Now()
	}
	return written
}

// quietEnough is how long it is believed that nothing has come since the latest look.
const quietEnough = time.Second

// converser is a connection that can wait for an answer from before the question leaves.
type converser interface {
	// converse writes as much of question as is taken at once. If that is all, it waits and reads once.
	converse(question, answer []byte) (written, read int, err error)
}

// writeBoth writes p and what stands behind it.
func (l *link) writeBoth(p, behind []byte) error {
	type gatherer interface {
		writeBoth(p, behind []byte) (int, error)
	}
	if s, ok := l.nc.(gatherer); ok {
		_, err := s.writeBoth(p, behind)
		return err
	}
	if err := l.write(p); err != nil {
		return err
	}
	return l.write(behind)
}

// buffered takes a reply that is already here.
func (l *link) buffered() (wire.Reply, error) {
	if l.r == l.w {
		return wire.Reply{}, wire.ErrIncomplete
	}
	r, n, err := wire.ParseReply(l.buf[l.r:l.w], maxReplyLine, maxReplyLines)
	l.r += n
	return r, err
}

// readReply waits for one whole reply until the deadline that was armed.
func (l *link) readReply() (wire.Reply, error) {
	for {
		r, err := l.buffered()
		if !errors.Is(err, wire.ErrIncomplete) {
			return r, err
		}
		for lineEnd := false; !lineEnd; { // a reply that drips in is not parsed once per byte
			n, err := l.fill()
			if n == 0 && err != nil {
				return wire.Reply{}, err
			}
			lineEnd = bytes.IndexByte(l.buf[l.w-n:l.w], '\n') >= 0
		}
	}
}

// fill reads once.
func (l *link) fill() (int, error) {
	if l.r == l.w {
		l.r, l.w = 0, 0
	}
	if l.w == len(l.buf) {
		switch {
		case l.r > 0:
			l.w = copy(l.buf, l.buf[l.r:l.w])
			l.r = 0
		case len(l.buf) < maxReplySize:
			l.buf = slices.Grow(l.buf, 3*len(l.buf))[:4*len(l.buf)]
		default:
			return 0, wire.ErrLineTooLong
		}
	}
	if l.failed != nil {
		return 0, l.failed
	}
	n, err := l.nc.Read(l.buf[l.w:])
	if l.w += n; l.w < len(l.buf) {
		l.quiet = time.Now()
	}
	if n == 0 && err == nil {
		err = io.ErrNoProgress
	}
	return n, err
}

// alive tells whether an idle connection can be used: the backend has not hung up, and has said nothing but what it
// owes.
func (l *link) alive() bool {
	if l.r != l.w {
		return l.owed > 0
	}
	pending, eof := peek(l.nc)
	if !pending && !eof {
		l.quiet = time.Now()
	}
	return !eof && (!pending || l.owed > 0)
}
