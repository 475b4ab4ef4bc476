package wire

import "bytes"

// Framing says how the bytes of a message are laid out on the wire.
type Framing uint8

const (
	// Dots is the form after DATA: dots at the start of lines are doubled, CRLF.CRLF ends the message.
	Dots Framing = iota
	// Chunks is the form after BDAT (RFC 3030): the bytes as they are, an end that the session counts.
	Chunks
	// Binary is BDAT after BODY=BINARYMIME: nothing is looked at and nothing is changed.
	Binary
)

// DataDecoder turns the bytes after DATA, or of BDAT chunks, into message bytes: dots unstuffed (after DATA only), every
// bare LF a CRLF, every bare CR a space. It judges nothing: [DataDecoder.Found] tells what was met, and the session
// refuses what it has to, after the end.
//
// The result does not depend on how the input is cut into calls. A message that keeps to the standard passes byte for
// byte.
//
// Only CRLF.CRLF ends data, with the CRLF of the DATA command as the first one. "On unstuffed bytes" means that the dot
// is taken away first and line ends are looked at after: CRLF . LF is an empty line, and what follows a bare LF is not
// at the start of a line, so that its dots are kept and stuffed anew on the way out.
//
// Make one with [NewDataDecoder] for each message.
type DataDecoder struct {
	framing Framing
	state   dataState
	line    int64 // bytes of the current line that have been written
	found   Oddities
}

type dataState uint8

const (
	lineStart dataState = iota // behind a CRLF, or at the very start
	inLine
	sawCR    // a CR is held back: it may be half of a CRLF
	sawDot   // a dot at the start of a line is held back
	sawDotCR // and a CR behind it
	ended
)

// NewDataDecoder makes a decoder for one message.
func NewDataDecoder(framing Framing) DataDecoder { return DataDecoder{framing: framing} }

// maxStep is the most that one byte of input can become: a held CR as a space, and the byte; or the CRLF of a bare LF.
const maxStep = 2

// MinSpace is the shortest destination that Decode can make progress with.
const MinSpace = maxStep

// Decode decodes from src into dst until src is used up, dst has less than [MinSpace] left, or the message has ended.
// It returns how many bytes it wrote and how many of src it used; up to two more may be held back inside. done is true
// from CRLF.CRLF on: what follows in src is the next command. dst and src must not overlap.
//
// The shape of use, with one copy from the buffer that the socket was read into to where the message is kept:
//
//	for len(src) > 0 && !done {
//		var w, n int
//		w, n, done = decoder.Decode(message.Space(), src)
//		err = message.Commit(w)
//		src = src[n:]
//	}
//
// Decoding in place would save that copy but needs room to grow for each bare LF, and puts commands that follow the
// message into the message's memory; next to the system calls the copy does not show.
func (d *DataDecoder) Decode(dst, src []byte) (written, consumed int, done bool) {
	if d.framing == Binary {
		n := copy(dst, src)
		return n, n, false
	}
	src = src[:min(len(src), len(dst))]
	marks := marks{src: src, lf: -1, cr: -1, nul: -1}
	w, r := 0, 0
	if end := d.lines(src); end > 0 {
		w, r = copy(dst, src[:end]), end
	}
	for r < len(src) && len(dst)-w >= MinSpace && d.state != ended {
		if end := d.plain(&marks, r, min(len(src), r+len(dst)-w)); end > r {
			w += copy(dst[w:], src[r:end])
			r = end
			continue
		}
		w += d.step(dst[w:], src[r])
		r++
	}
	return w, r, d.state == ended
}

// lines returns the length of the whole lines at the start of src that pass as they are, if src holds nothing but such up
// to its last line end or to a dot at the start of a line; else 0. It looks for line feeds alone, and then at all of src
// once for carriage returns that do not belong to one, and once for NULs: lines of 76 bytes take a third less time than with
// plain alone, which looks for all three in each of them.
func (d *DataDecoder) lines(src []byte) (end int) {
	if d.state > inLine {
		return 0
	}
	count, longest := 0, d.found.LongestLine
	line := d.line
	for d.framing != Dots || end == len(src) || src[end] != '.' || end == 0 && d.state == inLine {
		lf := bytes.IndexByte(src[end:], '\n')
		if lf < 0 {
			break
		}
		if lf == 0 || src[end+lf-1] != '\r' {
			return 0
		}
		longest = max(longest, line+int64(lf)+1)
		line, end = 0, end+lf+1
		count++
	}
	if count == 0 || bytes.Count(src[:end], []byte{'\r'}) != count || bytes.IndexByte(src[:end], 0) >= 0 {
		return 0
	}
	d.state, d.line, d.found.LongestLine = lineStart, 0, longest
	return end
}

// Finish ends BDAT input: a CR that was held back is bare. dst needs [MinSpace].
func (d *DataDecoder) Finish(dst []byte) (written int) {
	if d.framing != Chunks || d.state != sawCR {
		return 0
	}
	d.state = inLine
	return d.bareCR(dst)
}

// Found tells what was met so far.
func (d *DataDecoder) Found() Oddities {
	found := d.found
	found.LongestLine = max(found.LongestLine, d.line)
	return found
}

// marks remembers where the next bytes of interest are, so that each byte is searched once however often the run of
// ordinary text is interrupted.
type marks struct {
	src         []byte
	lf, cr, nul int // the first at or behind the place asked for last, or len(src)
}

// plain returns the end of the ordinary text that starts at src[r]: it can be copied as it is. It reaches end at most.
func (d *DataDecoder) plain(m *marks, r, end int) int {
	if d.state > inLine {
		return r
	}
	for r < end {
		if d.state == lineStart && d.framing == Dots && m.src[r] == '.' {
			return r
		}
		if m.lf < r {
			m.lf = index(m.src, r, len(m.src), '\n')
		}
		if m.cr < r {
			m.cr = index(m.src, r, m.lf, '\r')
		}
		if m.nul < r {
			m.nul = index(m.src, r, len(m.src), 0)
		}
		stop := min(m.nul, end)
		if m.cr+1 != m.lf || m.lf >= stop {
			if part := min(m.cr, m.lf, stop); part > r {
				d.line += int64(part - r)
				d.state = inLine
				return part
			}
			return r
		}
		d.endLine(int64(m.lf + 1 - r))
		d.state = lineStart
		r = m.lf + 1
	}
	return r
}

// index finds b in s[from:to]; it returns to if it is not there.
func index(s []byte, from, to int, b byte) int {
	if i := bytes.IndexByte(s[from:to], b); i >= 0 {
		return from + i
	}
	return to
}

// step takes one byte through the state machine and returns how many bytes it wrote.
func (d *DataDecoder) step(dst []byte, b byte) (written int) {
	switch d.state {
	case lineStart:
		if b == '.' && d.framing == Dots {
			d.state = sawDot
			return 0
		}
	case sawDot:
		if b == '\r' {
			d.state = sawDotCR
			return 0
		}
		// RFC 5321, 4.5.2: the dot is deleted if there are other characters on the line.
	case sawDotCR:
		if b == '\n' {
			d.state = ended
			return 0
		}
		written = d.bareCR(dst)
	case sawCR:
		if b == '\n' {
			d.state = lineStart
			return d.crlf(dst)
		}
		written = d.bareCR(dst)
	}
	d.state = inLine
	return written + d.text(dst[written:], b)
}

// text takes a byte that is neither held back nor follows one that is.
func (d *DataDecoder) text(dst []byte, b byte) (written int) {
	switch b {
	case '\r':
		d.state = sawCR
		return 0
	case '\n':
		d.found.BareLF++
		return d.crlf(dst)
	case 0:
		d.found.NUL++
	}
	dst[0] = b
	d.line++
	return 1
}

func (d *DataDecoder) bareCR(dst []byte) (written int) {
	d.found.BareCR++
	d.line++
	dst[0] = ' '
	return 1
}

func (d *DataDecoder) crlf(dst []byte) (written int) {
	d.endLine(2)
	return copy(dst, "\r\n")
}

// endLine counts the last n bytes of a line.
func (d *DataDecoder) endLine(n int64) {
	d.found.LongestLine = max(d.found.LongestLine, d.line+n)
	d.line = 0
}
