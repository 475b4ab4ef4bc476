package wire

import (
	"bytes"
	"math"
	"strings"
)

// Verb is an SMTP command verb.
type Verb uint8

// The verbs of RFC 5321 and of the extensions that a session must at least recognise.
const (
	Unknown Verb = iota
	HELO
	EHLO
	MAIL
	RCPT
	DATA
	BDAT
	RSET
	NOOP
	VRFY
	EXPN
	HELP
	QUIT
	STARTTLS
	AUTH
	ETRN
	ATRN
	TURN
	SEND
	SOML
	SAML
	XCLIENT
	XFORWARD
	LHLO
)

var verbNames = [...]string{
	Unknown: "UNKNOWN", HELO: "HELO", EHLO: "EHLO", MAIL: "MAIL", RCPT: "RCPT", DATA: "DATA", BDAT: "BDAT",
	RSET: "RSET", NOOP: "NOOP", VRFY: "VRFY", EXPN: "EXPN", HELP: "HELP", QUIT: "QUIT", STARTTLS: "STARTTLS",
	AUTH: "AUTH", ETRN: "ETRN", ATRN: "ATRN", TURN: "TURN", SEND: "SEND", SOML: "SOML", SAML: "SAML",
	XCLIENT: "XCLIENT", XFORWARD: "XFORWARD", LHLO: "LHLO",
}

var verbs = func() map[string]Verb {
	m := make(map[string]Verb, len(verbNames))
	for v := HELO; int(v) < len(verbNames); v++ {
		m[verbNames[v]] = v
	}
	return m
}()

func (v Verb) String() string { return verbNames[v] }

// maxVerb bounds what is repeated of an unknown verb in replies and logs.
const maxVerb = 20

// Command is a parsed command line.
type Command struct {
	Verb Verb
	Name string // the verb as sent, upper case, at most 20 characters, printable ASCII
	Arg  string // what follows the verb and one space, trailing blanks removed
}

// ParseCommand splits a command line that came from [NextLine] at its first blank. Verbs are case-insensitive
// (RFC 5321, 2.4).
func ParseCommand(line []byte) Command {
	verb, arg := line, []byte(nil)
	if blank := bytes.IndexAny(line, " \t"); blank >= 0 {
		verb, arg = line[:blank], bytes.TrimRight(line[blank+1:], " \t")
	}
	var upper [maxVerb]byte
	n := copy(upper[:], verb)
	for i, b := range upper[:n] {
		switch {
		case 'a' <= b && b <= 'z':
			upper[i] = b - 'a' + 'A'
		case b <= ' ' || b > '~':
			upper[i] = '?'
		}
	}
	c := Command{Arg: string(arg)}
	if v, ok := verbs[string(upper[:n])]; ok && len(verb) == n {
		c.Verb, c.Name = v, verbNames[v]
	} else {
		c.Name = string(upper[:n])
	}
	return c
}

// SyntaxError is a command whose argument cannot be understood. It holds the reply to give.
type SyntaxError struct {
	Code     int    // 501
	Enhanced string // "5.5.4", or "5.1.7" and "5.1.3" for addresses (RFC 3463)
	Text     string
}

func (e *SyntaxError) Error() string { return e.Text }

func badArgument(text string) *SyntaxError { return &SyntaxError{501, "5.5.4", text} }

var errBdatSyntax = badArgument("Syntax: BDAT size [LAST], size in bytes")

// ParseBdat parses "SIZE [LAST]" (RFC 3030, 2). A size that does not fit an int64 is refused.
func ParseBdat(arg string) (size int64, last bool, err error) {
	digits, rest, more := strings.Cut(strings.TrimLeft(arg, " "), " ")
	if digits == "" {
		return 0, false, errBdatSyntax
	}
	for _, d := range []byte(digits) {
		v := int64(d) - '0'
		if v < 0 || v > 9 || size > (math.MaxInt64-v)/10 {
			return 0, false, errBdatSyntax
		}
		size = size*10 + v
	}
	if rest = strings.Trim(rest, " "); more && rest != "" {
		if !strings.EqualFold(rest, "LAST") {
			return 0, false, errBdatSyntax
		}
		last = true
	}
	return size, last, nil
}
