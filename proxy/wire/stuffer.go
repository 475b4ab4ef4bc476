package wire

import (
	"bytes"
	"io"
	"sync"
)

// stufferSize is the size of a write: what a socket takes at once, and a few TLS records.
const stufferSize = 64 << 10

// terminator is what End adds at most: the CRLF that the message lacks, and the end of data.
const terminator = "\r\n.\r\n"

var stufferBuffers = sync.Pool{New: func() any { return new([stufferSize]byte) }}

// Stuffer writes a message in the form that follows DATA: a dot before every line that starts with one, a CRLF at the
// end if it is missing, then ".CRLF" (RFC 5321, 4.5.2). The pieces are gathered, so that a small message with the fields
// on top of it is one write, a large one is writes of 64 KiB, and the end of data is never a packet of its own.
//
// Gathering costs one copy. Handing slices between the dots to writev would save it, but a hostile message is all dots,
// and under TLS each slice becomes a record. Backends that offer CHUNKING get the message without a Stuffer.
//
// Dots are stuffed behind every LF, not only behind CRLF: in messages that went through the [DataDecoder] it is the
// same, and in any others it is safer.
type Stuffer struct {
	w    io.Writer
	buf  *[stufferSize]byte
	n    int     // bytes in buf
	last [2]byte // the last two bytes of the message so far; CRLF at its start
	err  error   // of w; sticky
}

// NewStuffer makes a Stuffer for one message.
func NewStuffer(w io.Writer) *Stuffer {
	return &Stuffer{w: w, buf: stufferBuffers.Get().(*[stufferSize]byte), last: [2]byte{'\r', '\n'}}
}

// Write takes the next piece of the message. It keeps nothing of p.
func (s *Stuffer) Write(p []byte) (int, error) {
	rest := p
	if len(rest) > 0 && rest[0] == '.' && s.last[1] == '\n' {
		s.put(dot)
	}
	for {
		i := bytes.Index(rest, lfDot)
		if i < 0 {
			break
		}
		s.put(rest[:i+1])
		s.put(dot)
		// The message's own dot stays in rest, where it cannot match again.
		rest = rest[i+1:]
	}
	s.put(rest)
	switch len(p) {
	case 0:
	case 1:
		s.last = [2]byte{s.last[1], p[0]}
	default:
		s.last = [2]byte(p[len(p)-2:])
	}
	if s.err != nil {
		return 0, s.err
	}
	return len(p), nil
}

var (
	dot   = []byte(".")
	lfDot = []byte("\n.")
)

// put gathers p. The buffer is written only when there is more to come, and keeps room for the terminator.
func (s *Stuffer) put(p []byte) {
	for len(p) > 0 && s.err == nil {
		if s.n == stufferSize-len(terminator) {
			s.flush()
		}
		k := copy(s.buf[s.n:stufferSize-len(terminator)], p)
		s.n += k
		p = p[k:]
	}
}

func (s *Stuffer) flush() {
	if s.err == nil {
		_, s.err = s.w.Write(s.buf[:s.n])
	}
	s.n = 0
}

// End completes the message with the end of data. It is not called Close because a message that could not be written
// whole must not be completed: then the Stuffer is dropped as it is. A Stuffer that has ended takes nothing more.
func (s *Stuffer) End() error {
	end := terminator[2:]
	if s.last != [2]byte{'\r', '\n'} {
		end = terminator
	}
	if s.err == nil {
		s.n += copy(s.buf[s.n:], end)
		s.flush()
	}
	err := s.err
	if s.buf != nil {
		stufferBuffers.Put(s.buf)
	}
	s.buf, s.err = nil, io.ErrClosedPipe
	return err
}
