package wire

import (
	"strings"
	"unicode/utf8"

	"gatepost/filters"
)

// Path is a parsed reverse- or forward-path (RFC 5321, 4.1.2).
type Path struct {
	Raw     string // as sent, angle brackets and source route included
	Address string // mailbox without brackets and route, otherwise untouched; empty for <>
	UTF8    bool   // has non-ASCII characters: needs SMTPUTF8 (RFC 6531)
}

// maxPath bounds a path with its source route, in bytes. RFC 5321, 4.5.3.1.3 names 256 as what every server must take
// and asks for more where it can be had.
const maxPath = 1024

// ParseMail parses "FROM:<reverse-path> [parameters]". The error is a *SyntaxError, ready to be answered.
//
// It follows RFC 5321 save where real senders do not: a blank after the colon is let through, and see address.go. An
// address without angle brackets is refused, since nobody can tell where it ends.
func ParseMail(arg string) (Path, []filters.Param, error) {
	rest, ok := cutPrefixFold(arg, "FROM:")
	if !ok {
		return Path{}, nil, badArgument("Syntax: MAIL FROM:<address> [parameters]")
	}
	path, rest, problem := scanPath(rest)
	if problem != "" {
		return Path{}, nil, &SyntaxError{501, "5.1.7", "Bad sender address: " + problem}
	}
	return withParams(path, rest)
}

// ParseRcpt parses "TO:<forward-path> [parameters]", and "TO:<postmaster>" without a domain (RFC 5321, 4.1.1.3).
func ParseRcpt(arg string) (Path, []filters.Param, error) {
	rest, ok := cutPrefixFold(arg, "TO:")
	if !ok {
		return Path{}, nil, badArgument("Syntax: RCPT TO:<address> [parameters]")
	}
	rest = strings.TrimLeft(rest, " ")
	if after, ok := cutPrefixFold(rest, "<postmaster>"); ok {
		raw := rest[:len(rest)-len(after)]
		return withParams(Path{Raw: raw, Address: raw[1 : len(raw)-1]}, after)
	}
	path, rest, problem := scanPath(rest)
	if problem == "" && path.Address == "" {
		problem = "a recipient cannot be empty"
	}
	if problem != "" {
		return Path{}, nil, &SyntaxError{501, "5.1.3", "Bad recipient address: " + problem}
	}
	return withParams(path, rest)
}

func withParams(path Path, rest string) (Path, []filters.Param, error) {
	params, err := parseParams(rest)
	if err != nil {
		return Path{}, nil, err
	}
	return path, params, nil
}

// scanPath reads a path at the start of s, blanks before it skipped, and returns what follows it. problem is empty if
// all is well.
func scanPath(s string) (p Path, rest, problem string) {
	s = strings.TrimLeft(s, " ")
	if s == "" || s[0] != '<' {
		return p, s, "it must stand in angle brackets, <user@example.org>"
	}
	if strings.HasPrefix(s, "<>") {
		return Path{Raw: "<>"}, s[2:], ""
	}
	route, problem := scanRoute(s[1:])
	if problem != "" {
		return p, s, problem
	}
	size, problem := scanMailbox(s[1+route:])
	if problem != "" {
		return p, s, problem
	}
	end := 1 + route + size
	if end+1 > maxPath {
		return p, s, "it is too long"
	}
	p = Path{Raw: s[:end+1], Address: s[1+route : end]}
	for i := range len(p.Raw) {
		if p.Raw[i] >= utf8.RuneSelf {
			p.UTF8 = true
			break
		}
	}
	if p.UTF8 && !utf8.ValidString(p.Raw) {
		return Path{}, s, "it is not valid UTF-8"
	}
	return p, s[end+1:], ""
}

// scanRoute returns the length of a source route with its colon, "@a.example,@b.example:" (RFC 5321, 4.1.2: it must be
// accepted and should be ignored), 0 if there is none.
func scanRoute(s string) (n int, problem string) {
	if s == "" || s[0] != '@' {
		return 0, ""
	}
	colon := strings.IndexByte(s, ':')
	if colon < 0 {
		return 0, "the source route does not end in a colon"
	}
	for hop := range strings.SplitSeq(s[:colon], ",") {
		domain, ok := strings.CutPrefix(hop, "@")
		if !ok || !validDomain(domain) {
			return 0, "its source route is malformed"
		}
	}
	return colon + 1, ""
}

// cutPrefixFold is strings.CutPrefix without regard to the case of ASCII letters; leading blanks are skipped.
func cutPrefixFold(s, prefix string) (rest string, ok bool) {
	s = strings.TrimLeft(s, " ")
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}
