package spf

import "strings"

// explain fetches the domain's explanation of a fail (RFC 7208, 6.2). Whatever goes wrong, there is none then; it
// counts against no limit but that on queries.
func (c *checker) explain(v verdict) string {
	if v.exp == "" {
		return ""
	}
	name, ok := c.target(v.exp, v.domain)
	if !ok {
		return ""
	}
	question, ask, _ := c.mayAsk(name)
	if !ask {
		return ""
	}
	texts, err := c.resolver.LookupTXT(c.ctx, question)
	if err != nil || len(texts) != 1 || !isExplanation(texts[0]) {
		return ""
	}
	b, ok := c.expand(nil, texts[0], allLetters, v.domain)
	if !ok {
		return ""
	}
	return printable(string(b), maxExplanation)
}

// isExplanation checks an explain-string: a macro-string with spaces (RFC 7208, 6.2).
func isExplanation(text string) bool {
	for part := range strings.SplitSeq(text, " ") {
		if !isMacroString(part, allLetters) {
			return false
		}
	}
	return true
}

// printable makes a text safe to show: other bytes than printable ASCII, which expanded macros may bring in, become
// "?", and what is beyond limit bytes is cut.
func printable(text string, limit int) string {
	b := []byte(text[:min(len(text), limit)])
	for i, c := range b {
		if c < ' ' || c >= 0x7f {
			b[i] = '?'
		}
	}
	return string(b)
}
