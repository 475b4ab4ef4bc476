package wire

import (
	"net/netip"
	"strings"
	"unicode/utf8"
)

// Where we are more liberal than RFC 5321, and why: a proxy that refuses what its backend would take loses mail.
//
//   - Local parts up to 255 bytes instead of 64: VERP and SRS put whole addresses into them, and 4.5.3.1 asks for no
//     limit where it can be had.
//   - Dots anywhere in an unquoted local part: Japanese carriers have given out "a..b@" and "a.@".
//   - Underscores in domains: hosts of that kind send mail.
const (
	maxLocal  = 255
	maxDomain = 255 // RFC 5321, 4.5.3.1.2
	maxLabel  = 63  // RFC 1035, 2.3.4
)

// scanMailbox returns the length of the mailbox at the start of s, which must be followed by '>'.
func scanMailbox(s string) (n int, problem string) {
	local, problem := scanLocal(s)
	switch {
	case problem != "":
		return 0, problem
	case local > maxLocal:
		return 0, "the part before the @ is too long"
	case local == len(s):
		return 0, "the closing angle bracket is missing"
	case s[local] == '>' && local > 0:
		return 0, "it has no domain"
	case s[local] != '@':
		return 0, "the part before the @ is malformed"
	case local == 0:
		return 0, "there is nothing before the @"
	}
	domain := s[local+1:]
	end := strings.IndexByte(domain, '>')
	if end < 0 {
		return 0, "the closing angle bracket is missing"
	}
	domain = domain[:end]
	switch {
	case strings.HasPrefix(domain, "["):
		if !validLiteral(domain) {
			return 0, "the address literal is malformed"
		}
	case !validDomain(domain):
		return 0, "the domain is malformed"
	}
	return local + 1 + end, ""
}

// scanLocal returns the length of the local part at the start of s: Dot-string or Quoted-string (RFC 5321, 4.1.2),
// extended by non-ASCII characters (RFC 6531, 3.3).
func scanLocal(s string) (n int, problem string) {
	if s == "" || s[0] != '"' {
		for n < len(s) && (isAtext(s[n]) || s[n] == '.') {
			n++
		}
		return n, ""
	}
	for n = 1; n < len(s); n++ {
		switch b := s[n]; {
		case b == '"':
			return n + 1, ""
		case b == '\\':
			n++
			if n == len(s) || !isQuotable(s[n]) {
				return 0, "a backslash in the quoted part is followed by nothing"
			}
		case !isQuotable(b) && b < utf8.RuneSelf:
			return 0, "the quoted part holds a control character"
		}
	}
	return 0, "the closing quotation mark is missing"
}

// isQuotable: quoted-pairSMTP takes space to '~', and so does qtextSMTP but for the backslash and the quotation mark.
func isQuotable(b byte) bool { return ' ' <= b && b <= '~' }

// isAtext (RFC 5322, 3.2.3), extended by RFC 6531.
func isAtext(b byte) bool {
	return isAlnum(b) || b >= utf8.RuneSelf || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", b) >= 0
}

func isAlnum(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9'
}

// validDomain checks labels of letters, digits, underscores, inner hyphens and non-ASCII characters.
func validDomain(s string) bool {
	if len(s) > maxDomain {
		return false
	}
	start := 0
	for i := 0; i <= len(s); i++ {
		switch {
		case i == len(s) || s[i] == '.':
			if i == start || i-start > maxLabel || s[start] == '-' || s[i-1] == '-' {
				return false
			}
			start = i + 1
		case !isAlnum(s[i]) && s[i] != '-' && s[i] != '_' && s[i] < utf8.RuneSelf:
			return false
		}
	}
	return true
}

// validLiteral checks "[192.0.2.1]" and "[IPv6:2001:db8::1]" (RFC 5321, 4.1.3). No other kind is registered.
func validLiteral(s string) bool {
	inner, ok := strings.CutSuffix(s[1:], "]")
	if !ok || len(inner) > maxDomain {
		return false
	}
	v6, ok := cutPrefixFold(inner, "IPv6:")
	if !ok || inner[0] == ' ' {
		return validIPv4(inner)
	}
	// netip refuses leading zeros in the dotted part, which the grammar allows; it is checked here and replaced.
	if dot := strings.IndexByte(v6, '.'); dot >= 0 {
		colon := strings.LastIndexByte(v6[:dot], ':')
		if !validIPv4(v6[colon+1:]) {
			return false
		}
		v6 = v6[:colon+1] + "0:0"
	}
	ip, err := netip.ParseAddr(v6)
	return err == nil && ip.Is6() && ip.Zone() == ""
}

// validIPv4 checks four numbers of one to three digits up to 255 (Snum, RFC 5321, 4.1.3).
func validIPv4(s string) bool {
	parts := 0
	for part := range strings.SplitSeq(s, ".") {
		value := 0
		for _, d := range []byte(part) {
			if d < '0' || d > '9' {
				return false
			}
			value = value*10 + int(d-'0')
		}
		if parts++; len(part) == 0 || len(part) > 3 || value > 255 || parts > 4 {
			return false
		}
	}
	return parts == 4
}
