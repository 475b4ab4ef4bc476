package policy

import "strings"

// plainAddress takes away quotes that a local part does not need: "user"@example.org is user@example.org (RFC 5321,
// 4.1.2), and a rule about the one must not be passed by writing the other. Only the facts are written so; the backend
// gets the address as the client gave it.
func plainAddress(address string) string {
	if !strings.HasPrefix(address, `"`) {
		return address
	}
	end := strings.LastIndexByte(address, '@')
	if end < 0 {
		end = len(address)
	}
	quoted, isQuoted := strings.CutSuffix(address[1:end], `"`)
	if !isQuoted {
		return address
	}
	var local strings.Builder
	for i := 0; i < len(quoted); i++ {
		if quoted[i] == '\\' && i+1 < len(quoted) {
			i++
		}
		local.WriteByte(quoted[i])
	}
	if !isDotString(local.String()) {
		return address
	}
	return local.String() + address[end:]
}

// isDotString tells what may stand before the @ without quotes (RFC 5321, 4.1.2; RFC 6531, 3.3 adds all beyond ASCII).
func isDotString(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" || strings.ContainsFunc(atom, func(r rune) bool { return r < 0x80 && !isAtomText(byte(r)) }) {
			return false
		}
	}
	return true
}

func isAtomText(c byte) bool {
	letter := c | 0x20
	return 'a' <= letter && letter <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}
