package proxy

import (
	"encoding/base64"
	"strings"
	"unicode"
	"unicode/utf8"
)

// unknownUser stands for a user whose mechanism does not show the name.
const unknownUser = "(unknown)"

// userOf finds the user's name in the first response of an exchange (base64), as far as the mechanism shows it there;
// else it is unknown. The response holds secrets: nothing else of it is kept.
func userOf(mechanism, response string) string {
	b, err := base64.StdEncoding.DecodeString(response)
	if err != nil {
		return unknownUser
	}
	text, name := string(b), ""
	switch {
	case mechanism == "PLAIN": // RFC 4616: authzid NUL authcid NUL passwd
		if parts := strings.Split(text, "\x00"); len(parts) == 3 {
			name = parts[1]
		}
	case mechanism == "LOGIN":
		name = text
	case mechanism == "CRAM-MD5": // RFC 2195: user digest
		if at := strings.LastIndexByte(text, ' '); at > 0 {
			name = text[:at]
		}
	case strings.HasPrefix(mechanism, "SCRAM-"): // RFC 5802: n,,n=user,r=nonce
		name = attribute(text, ",", "n=")
		name = strings.NewReplacer("=2C", ",", "=3D", "=").Replace(name)
	case mechanism == "OAUTHBEARER": // RFC 7628: n,a=user,^A…
		name = attribute(text, ",", "a=")
	case mechanism == "XOAUTH2":
		name = attribute(text, "\x01", "user=")
	}
	if name == "" || len(name) > 255 || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return unknownUser
	}
	return name
}

// attribute is the value of the first part with that key.
func attribute(text, separator, key string) string {
	for part := range strings.SplitSeq(text, separator) {
		if value, found := strings.CutPrefix(part, key); found {
			return value
		}
	}
	return ""
}
