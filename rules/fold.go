package rules

import "strings"

// What DNS and SMTP compare without case is ASCII (RFC 4343, RFC 5321, 2.4): nothing here folds other letters.

func lowerByte(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		return b + ('a' - 'A')
	}
	return b
}

func hasUpper(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return 'A' <= r && r <= 'Z' })
}

// lowerASCII returns s itself when there is nothing to change.
func lowerASCII(s string) string {
	if !hasUpper(s) {
		return s
	}
	return string(appendLower(make([]byte, 0, len(s)), s))
}

func appendLower(dst []byte, s string) []byte {
	for i := range len(s) {
		dst = append(dst, lowerByte(s[i]))
	}
	return dst
}

// equalFold and its kin take a part that is in lower case already.
func equalFold(s, lower string) bool { return len(s) == len(lower) && prefixFold(s, lower) }

func prefixFold(s, lower string) bool {
	if len(s) < len(lower) {
		return false
	}
	for i := range len(lower) {
		if lowerByte(s[i]) != lower[i] {
			return false
		}
	}
	return true
}

func suffixFold(s, lower string) bool {
	return len(s) >= len(lower) && prefixFold(s[len(s)-len(lower):], lower)
}

func containsFold(s, lower string) bool {
	for i := 0; i+len(lower) <= len(s); i++ {
		if prefixFold(s[i:], lower) {
			return true
		}
	}
	return false
}
