package wire

import (
	"strings"
	"unicode/utf8"

	"gatepost/filters"
)

// Bounds of what MAIL and RCPT may carry. The longest value that a standard allows is ORCPT's 500 (RFC 3461, 4.2).
const (
	maxParams     = 24
	maxParamKey   = 64
	maxParamValue = 1024
)

// parseParams reads " KEY[=VALUE] …" (RFC 5321, 4.1.2) without changing anything: the backend gets it as it came.
func parseParams(s string) ([]filters.Param, error) {
	if s == "" {
		return nil, nil
	}
	if s[0] != ' ' {
		return nil, badArgument("A blank is missing after the angle bracket")
	}
	s = strings.Trim(s, " ")
	if s == "" {
		return nil, nil
	}
	params := make([]filters.Param, 0, min(maxParams, 1+strings.Count(s, " ")))
	for ; s != ""; s = strings.TrimLeft(s, " ") {
		var word string
		word, s, _ = strings.Cut(s, " ")
		key, value, hasValue := strings.Cut(word, "=")
		switch {
		case len(params) == maxParams:
			return nil, badArgument("Too many parameters")
		case !validKey(key):
			return nil, badArgument("A parameter must be of the form KEY or KEY=value")
		case !validValue(value):
			return nil, badArgument("The value of a parameter is too long or holds characters that are not allowed")
		}
		params = append(params, filters.Param{Key: key, Value: value, HasValue: hasValue})
	}
	return params, nil
}

// validKey checks esmtp-keyword.
func validKey(s string) bool {
	if s == "" || len(s) > maxParamKey || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

// validValue checks esmtp-value, which RFC 6531 extends to UTF-8. An empty value and an inner "=" are let through, as
// every MTA does: they can become nothing else on the way.
func validValue(s string) bool {
	if len(s) > maxParamValue {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

// AppendParams writes " KEY=VALUE …" verbatim and in order.
func AppendParams(dst []byte, params []filters.Param) []byte {
	for _, p := range params {
		dst = append(dst, ' ')
		dst = append(dst, p.Key...)
		if p.HasValue {
			dst = append(dst, '=')
			dst = append(dst, p.Value...)
		}
	}
	return dst
}
