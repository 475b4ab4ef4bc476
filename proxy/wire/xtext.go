package wire

import "errors"

const hexDigits = "0123456789ABCDEF"

// AppendXtext encodes s as xtext (RFC 3461, 4), for XCLIENT and DSN: what comes out is printable ASCII without blanks,
// "+" only before two hexadecimal digits, and no "=".
func AppendXtext(dst []byte, s string) []byte {
	for i := range len(s) {
		if b := s[i]; b <= ' ' || b > '~' || b == '+' || b == '=' {
			dst = append(dst, '+', hexDigits[b>>4], hexDigits[b&15])
		} else {
			dst = append(dst, b)
		}
	}
	return dst
}

var errXtext = errors.New("not xtext (RFC 3461): printable ASCII without blanks and =, other bytes as +HH")

// ParseXtext decodes xtext. The result may hold any byte, control characters included: check it before use.
func ParseXtext(s string) (string, error) {
	plain := true
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '=' {
			return "", errXtext
		}
		plain = plain && s[i] != '+'
	}
	if plain {
		return s, nil
	}
	decoded := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '+' {
			decoded = append(decoded, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", errXtext
		}
		high, low := unhex(s[i+1]), unhex(s[i+2])
		if high < 0 || low < 0 {
			return "", errXtext
		}
		decoded = append(decoded, byte(high<<4|low))
		i += 2
	}
	return string(decoded), nil
}

// unhex is the value of a hexadecimal digit, or -1. Lower case is let through: senders use it.
func unhex(b byte) int {
	switch {
	case '0' <= b && b <= '9':
		return int(b - '0')
	case 'A' <= b && b <= 'F':
		return int(b-'A') + 10
	case 'a' <= b && b <= 'f':
		return int(b-'a') + 10
	}
	return -1
}
