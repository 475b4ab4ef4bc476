package wire

import (
	"bytes"
	"errors"
	"strings"
)

// maxReplyLine is the length of a reply line with code and CRLF (RFC 5321, 4.5.3.1.5).
const maxReplyLine = 512

// Reply is a server's reply, as it was received or is to be sent.
type Reply struct {
	Code  int
	Lines []string // text of each line after "250-" or "250 ", enhanced code included; at least one
}

// NewReply makes a reply of our own. text may have several lines, separated by "\n"; each gets the enhanced code in
// front (RFC 2034), if there is one. Whatever is not printable ASCII becomes "?" (RFC 5321, 4.2: textstring), and what
// does not fit the 512 bytes of a line is cut off.
func NewReply(code int, enhanced, text string) Reply {
	r := Reply{Code: code, Lines: make([]string, 0, 1+strings.Count(text, "\n"))}
	for line := range strings.SplitSeq(text, "\n") {
		line = printable(strings.TrimRight(line, "\r "))
		if enhanced != "" {
			line = strings.TrimRight(enhanced+" "+line, " ")
		}
		r.Lines = append(r.Lines, line[:min(len(line), maxReplyLine-len("250 \r\n"))])
	}
	return r
}

// printable replaces everything that RFC 5321's textstring does not allow.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && (r < ' ' || r > '~') {
			return '?'
		}
		return r
	}, s)
}

// AppendTo writes the reply with CRLFs. A control character in a backend's text becomes a blank: it must not become
// syntax towards the client. Other bytes pass as they are.
func (r Reply) AppendTo(dst []byte) []byte {
	for i, line := range r.Lines {
		dst = append(dst, byte('0'+r.Code/100%10), byte('0'+r.Code/10%10), byte('0'+r.Code%10))
		if i < len(r.Lines)-1 {
			dst = append(dst, '-')
		} else {
			dst = append(dst, ' ')
		}
		start := len(dst)
		dst = append(dst, line...)
		for k, b := range dst[start:] {
			if b < ' ' && b != '\t' || b == 0x7f {
				dst[start+k] = ' '
			}
		}
		dst = append(dst, '\r', '\n')
	}
	return dst
}

// Class is the first digit of the code.
func (r Reply) Class() int { return r.Code / 100 }

// Enhanced is the enhanced status code (RFC 3463) at the start of the reply, or empty if there is none or its class
// contradicts the reply's (RFC 2034, 4).
func (r Reply) Enhanced() string {
	if len(r.Lines) == 0 {
		return ""
	}
	code, _, _ := strings.Cut(r.Lines[0], " ")
	if len(code) < len("2.0.0") || int(code[0]-'0') != r.Class() || !strings.Contains("245", code[:1]) || code[1] != '.' {
		return ""
	}
	subject, detail, _ := strings.Cut(code[2:], ".")
	if !isStatusNumber(subject) || !isStatusNumber(detail) {
		return ""
	}
	return code
}

func isStatusNumber(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return 1 <= len(s) && len(s) <= 3
}

// Text is the text of all lines without the enhanced code, separated by "\n".
func (r Reply) Text() string {
	enhanced := r.Enhanced()
	if len(r.Lines) == 1 && enhanced == "" {
		return r.Lines[0]
	}
	var b strings.Builder
	for i, line := range r.Lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		if rest, ok := strings.CutPrefix(line, enhanced); ok && (rest == "" || rest[0] == ' ') {
			line = strings.TrimPrefix(rest, " ")
		}
		b.WriteString(line)
	}
	return b.String()
}

// String is the code and the text of all lines as they are, separated by "\n". It is for people and records: it can hold
// what a backend sent, control characters included.
func (r Reply) String() string {
	code := [4]byte{byte('0' + r.Code/100%10), byte('0' + r.Code/10%10), byte('0' + r.Code%10), ' '}
	return string(code[:]) + strings.Join(r.Lines, "\n")
}

var (
	// ErrNotReply: what the server sent is not an SMTP reply.
	ErrNotReply = errors.New("not an SMTP reply")
	// ErrReplyTooLong: a reply with more lines than the limit.
	ErrReplyTooLong = errors.New("reply has too many lines")
)

// ParseReply parses one whole reply at the start of buf. n is its length. Other errors than [ErrIncomplete] mean that
// this is no SMTP server, or one that is out to exhaust us.
//
// It is as tolerant as MTAs are to each other: "250" without a blank, a bare LF as line end (the text is written anew
// with CRLFs, so nothing comes of it), and lines with different codes, of which the last counts.
func ParseReply(buf []byte, maxLine, maxLines int) (r Reply, n int, err error) {
	lines := 0
	for last := false; !last; lines++ {
		if lines == maxLines {
			return Reply{}, 0, ErrReplyTooLong
		}
		rest := buf[n:]
		lf := bytes.IndexByte(rest[:min(len(rest), maxLine)], '\n')
		if lf < 0 && len(rest) >= maxLine {
			return Reply{}, 0, ErrLineTooLong
		}
		if lf < 0 {
			return Reply{}, 0, ErrIncomplete
		}
		r.Code, last, err = replyCode(bytes.TrimSuffix(rest[:lf], []byte{'\r'}))
		if err != nil {
			return Reply{}, 0, err
		}
		n += lf + 1
	}
	// One string for all lines: the lines are parts of it.
	text := string(buf[:n])
	r.Lines = make([]string, 0, lines)
	for range lines {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		line = strings.TrimSuffix(line, "\r")
		r.Lines = append(r.Lines, line[min(len(line), len("250 ")):])
	}
	return r, n, nil
}

// replyCode reads "250", "250 …" or "250-…".
func replyCode(line []byte) (code int, last bool, err error) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' {
		return 0, false, ErrNotReply
	}
	for _, d := range line[:3] {
		if d < '0' || d > '9' {
			return 0, false, ErrNotReply
		}
		code = code*10 + int(d-'0')
	}
	if len(line) == 3 || line[3] == ' ' {
		return code, true, nil
	}
	if line[3] != '-' {
		return 0, false, ErrNotReply
	}
	return code, false, nil
}

// ParseKeyword splits a line of the reply to EHLO, "SIZE 35882577", into its keyword in upper case and the rest.
func ParseKeyword(line string) (name, args string) {
	name, args, _ = strings.Cut(strings.TrimSpace(line), " ")
	return strings.ToUpper(name), strings.TrimSpace(args)
}
