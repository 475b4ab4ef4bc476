package filters

import (
	"strings"

	"golang.org/x/net/publicsuffix"
)

// folded stands for whatever differs from message to message. Where it occurs in an address, it counts as a digit, so
// that folding twice is folding once.
const folded = "#"

// FoldSender maps all envelope senders of one mailing stream to one text: it takes away what differs per message or per
// recipient (VERP, SRS, BATV, plus tags, digits, random tokens) and keeps people apart. It is a guess by form: where it
// is wrong, two senders of one domain and network share a pass, or one of them waits again.
func FoldSender(reversePath string) string {
	if reversePath == "" {
		return ""
	}
	local, domain := SplitAddress(reversePath)
	return foldLocal(local, 0) + "@" + FoldDomain(strings.TrimRight(domain, "."))
}

// FoldDomain folds digits in host names below the registered domain: mta17.example.org is mta#.example.org, but
// 163.com stays itself.
func FoldDomain(domain string) string {
	registered, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil || len(registered) >= len(domain) {
		return domain
	}
	host := domain[:len(domain)-len(registered)]
	return foldDigits(host) + registered
}

// foldDigits replaces every run of digits.
func foldDigits(s string) string {
	var b strings.Builder
	inDigits := false
	for i := range len(s) {
		digit := isDigit(s[i])
		switch {
		case !digit:
			b.WriteByte(s[i])
		case !inDigits:
			b.WriteString(folded)
		}
		inDigits = digit
	}
	return b.String()
}

// maxWrappers bounds how deep rewritten addresses are unwrapped (a BATV tag in an SRS address is 2).
const maxWrappers = 4

// foldLocal folds a local-part: what forwarders and bounce protection wrapped around it first, then its tag or
// embedded recipient, then its tokens.
func foldLocal(local string, depth int) string {
	if depth < maxWrappers {
		if inner, ok := unwrapBATV(local); ok {
			return foldLocal(inner, depth+1)
		}
		if s, ok := foldSRS(local, depth); ok {
			return s
		}
	}
	// A tag: alice+shop, bounce+3a5f-user=example.org, list+bncBAABC.
	if at := strings.IndexByte(local, '+'); at > 0 {
		return foldLocal(local[:at], maxWrappers)
	}
	// An embedded recipient: bounces-123-user=example.net. Nobody can tell where its local-part begins, so what is
	// before the first hyphen stands for all.
	if at := strings.IndexByte(local, '='); at >= 0 {
		word := strings.IndexByte(local[:at], '-')
		if word < 0 {
			return "="
		}
		return foldTokens(local[:word+1]) + "="
	}
	// LISTSERV: owner-list*user**example.net.
	if strings.Contains(local, "**") {
		return foldTokens(local[:strings.IndexByte(local, '*')]) + "*"
	}
	return foldTokens(local)
}

// unwrapBATV takes bounce address tags off: prvs=1234567890=user and prvs=user/1234567890 (draft-levine-smtp-batv),
// msprvs1=…=user, btv1==…==user.
func unwrapBATV(local string) (inner string, ok bool) {
	lower := lowerASCII(local)
	for _, scheme := range [...]struct{ prefix, separator string }{{"prvs=", "="}, {"msprvs1=", "="}, {"btv1==", "=="}} {
		if !strings.HasPrefix(lower, scheme.prefix) {
			continue
		}
		rest := local[len(scheme.prefix):]
		if at := strings.Index(rest, scheme.separator); at > 0 {
			return rest[at+len(scheme.separator):], true
		}
		if at := strings.LastIndexByte(rest, '/'); at > 0 {
			return rest[:at], true
		}
	}
	return "", false
}

// foldSRS folds hash and time stamp of a sender rewritten by a forwarder: SRS0=hash=time=domain=user and
// SRS1=hash=forwarder==hash=time=domain=user.
func foldSRS(local string, depth int) (s string, ok bool) {
	if len(local) < 5 || !strings.ContainsRune("=+-", rune(local[4])) {
		return "", false
	}
	kind, rest := lowerASCII(local[:4]), local[5:]
	switch kind {
	case "srs0":
		s, ok = foldSRS0(rest, depth)
		return "srs0=" + s, ok
	case "srs1":
		part := strings.SplitN(rest, "=", 3)
		if len(part) < 3 || part[2] == "" || !strings.ContainsRune("=+-", rune(part[2][0])) {
			return "", false
		}
		s, ok = foldSRS0(part[2][1:], depth)
		return "srs1=" + folded + "=" + FoldDomain(lowerASCII(part[1])) + "==" + s, ok
	}
	return "", false
}

func foldSRS0(rest string, depth int) (s string, ok bool) {
	part := strings.SplitN(rest, "=", 4)
	if len(part) < 4 {
		return "", false
	}
	return folded + "=" + folded + "=" + FoldDomain(lowerASCII(part[2])) + "=" + foldLocal(part[3], depth+1), true
}

// foldTokens folds each token between delimiters. A row of tokens that are all random counts as one: their number
// differs as well.
func foldTokens(local string) string {
	var b strings.Builder
	delimiters := 0 // where those before the current token begin in b
	last := ""
	for local != "" {
		end := 0
		for end < len(local) && !isDelimiter(local[end]) {
			end++
		}
		if end > 0 {
			token := foldToken(local[:end])
			if token == folded && last == folded {
				kept := b.String()[:delimiters]
				b.Reset()
				b.WriteString(kept)
			} else {
				b.WriteString(token)
				delimiters = b.Len()
			}
			last = token
			local = local[end:]
			continue
		}
		b.WriteByte(local[0])
		local = local[1:]
	}
	return b.String()
}

// Thresholds of foldToken, in bytes.
const (
	longToken     = 20 // longer words are tokens, whatever they look like
	hexToken      = 4  // "beef" of an UUID; the price is that cafe@ and face@ are one
	vowellessWord = 6
)

// foldToken folds one token: a word stays, with its digits folded (user42 is user#); a token that looks random goes
// as a whole.
func foldToken(token string) string {
	f := formOf(token)
	letters := len(token) - f.digits
	switch {
	case letters == 0,
		f.hex && len(token) >= hexToken,
		f.alternations >= 2,
		f.humps >= 2,
		letters >= longToken,
		letters >= vowellessWord && !f.vowel:
		return folded
	}
	return foldDigits(lowerASCII(token))
}

// form is what a token looks like.
type form struct {
	digits       int
	alternations int  // changes between digits and others
	humps        int  // a lower-case letter before an upper-case one, as in base64
	hex          bool // all its letters are hexadecimal
	vowel        bool
}

func formOf(token string) form {
	f := form{hex: true}
	for i := range len(token) {
		c := token[i]
		if i > 0 {
			if isDigit(c) != isDigit(token[i-1]) {
				f.alternations++
			}
			if 'A' <= c && c <= 'Z' && 'a' <= token[i-1] && token[i-1] <= 'z' {
				f.humps++
			}
		}
		lower := c | 0x20
		switch {
		case isDigit(c):
			f.digits++
			continue
		case c >= 0x80:
			f.vowel = true // another script: a word
		case strings.IndexByte("aeiouy", lower) >= 0:
			f.vowel = true
		}
		f.hex = f.hex && 'a' <= lower && lower <= 'f'
	}
	return f
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' || c == folded[0] }

// isDelimiter tells what separates tokens: all ASCII that is neither letter nor digit.
func isDelimiter(c byte) bool {
	letter := 'a' <= c|0x20 && c|0x20 <= 'z'
	return c < 0x80 && !letter && !isDigit(c)
}

// lowerASCII keeps all other bytes, valid UTF-8 or not, as they are.
func lowerASCII(s string) string {
	lower := []byte(s)
	for i, c := range lower {
		if 'A' <= c && c <= 'Z' {
			lower[i] = c | 0x20
		}
	}
	return string(lower)
}
