package proxy

import (
	"slices"
	"strconv"
	"strings"

	"gatepost/proxy/backend/backendtest"
)

// owners says which keyword a parameter of MAIL or RCPT belongs to.
var owners = map[string]map[string]string{
	"MAIL": {"SIZE": "SIZE", "BODY": "8BITMIME", "SMTPUTF8": "SMTPUTF8", "RET": "DSN", "ENVID": "DSN", "REQUIRETLS": "REQUIRETLS",
		"MT-PRIORITY": "MT-PRIORITY", "BY": "DELIVERBY", "HOLDFOR": "FUTURERELEASE", "HOLDUNTIL": "FUTURERELEASE", "X-LOCAL": "X-LOCAL"},
	"RCPT": {"NOTIFY": "DSN", "ORCPT": "DSN", "RRVS": "RRVS", "X-LOCAL": "X-LOCAL"},
}

// listed is what the operator of the matrix has under backend.extensions.
var listed = []string{"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "BINARYMIME", "ENHANCEDSTATUSCODES",
	"LIMITS", "REQUIRETLS", "VRFY", "EXPN", "ETRN", "HELP", "MT-PRIORITY", "DELIVERBY", "FUTURERELEASE", "RRVS", "X-LOCAL"}

func keywordsOfAll() []string {
	return []string{"PIPELINING", "SIZE 1000000", "8BITMIME", "BINARYMIME", "CHUNKING", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES",
		"LIMITS MAILMAX=100000 RCPTMAX=3", "REQUIRETLS", "VRFY", "EXPN", "ETRN", "HELP",
		"MT-PRIORITY MIXER", "DELIVERBY 10", "FUTURERELEASE 86400 2030-01-01T00:00:00Z", "RRVS", "X-LOCAL", "PRDR", "X-UNKNOWN"}
}

// model is a backend that keeps strictly to the keywords that it offers.
type model struct {
	args   map[string]string
	secure bool // the client uses TLS
}

func newModel(keywords []string) *model {
	m := &model{args: map[string]string{}}
	for _, k := range keywords {
		name, args, _ := strings.Cut(k, " ")
		m.args[name] = args
	}
	return m
}

// offers tells whether an extension can be used: some need another. What the operator does not list is not to be had
// through the proxy, so the model does without it, too.
func (m *model) offers(keyword string) bool {
	if _, ok := m.args[keyword]; !ok || !slices.Contains(listed, keyword) {
		return false
	}
	switch keyword {
	case "SMTPUTF8":
		return m.offers("8BITMIME")
	case "BINARYMIME":
		return m.offers("CHUNKING")
	}
	return true
}

// through is what EHLO has to offer through the proxy.
func (m *model) through(c cell) string {
	var list []string
	for k := range m.args {
		switch {
		case !m.offers(k):
		case k == "REQUIRETLS" && !c.tls: // RFC 8689, 2
		case k == "SIZE":
			size, _ := strconv.Atoi(m.args[k])
			list = append(list, "SIZE "+strconv.Itoa(size-traceRoom))
		default:
			list = append(list, strings.TrimSpace(k+" "+m.args[k]))
		}
	}
	if !c.tls {
		list = append(list, "STARTTLS")
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// answer is the backend's own mind; where it has none the server does the usual.
func (m *model) answer(s *backendtest.Session, line string) string {
	verb, arg, _ := strings.Cut(line, " ")
	switch verb = strings.ToUpper(verb); verb {
	case "MAIL", "RCPT":
		return m.envelope(s, verb, arg)
	case "RSET":
		if arg != "" {
			return "501 5.5.4 Error: RSET has no argument"
		}
	case "DATA":
		return m.data(s, arg)
	case "BDAT":
		if s.From == "" && m.offers("CHUNKING") && strings.HasPrefix(arg, "0") {
			return "503 5.5.1 Error: need MAIL command"
		}
		if !m.offers("CHUNKING") {
			return "502 5.5.1 Error: command not implemented"
		}
	case "VRFY":
		if arg == "" {
			return "501 5.5.4 Error: address, please"
		}
		if !m.offers("VRFY") {
			return "252 2.5.0 Will try"
		}
		return "252-2.0.0 first of " + arg + "\r\n252 2.0.0 second"
	case "EXPN", "ETRN":
		switch {
		case !m.offers(verb):
			return "502 5.5.1 Error: not implemented"
		case arg == "":
			return "501 5.5.4 Error: argument, please"
		case verb == "EXPN":
			return "250-2.1.5 <one@example.com>\r\n250 2.1.5 <two@example.com>"
		}
		return "250 2.0.0 Queuing started"
	case "HELP":
		return "214 2.0.0 Help yourself"
	case "AUTH", "TURN", "ATRN", "SEND", "SOML", "SAML":
		return "502 5.5.1 Error: not implemented"
	case "LHLO", "FOO":
		return "500 5.5.1 Error: what?"
	case ".":
		if s.From == "" && strings.HasPrefix(m.last(s), "MAIL FROM:<late@") {
			return "550-5.7.1 We have read it\r\n550 5.7.1 and do not like it"
		}
	}
	return ""
}

// last is the latest MAIL.
func (m *model) last(s *backendtest.Session) string {
	lines := s.Lines()
	for _, line := range slices.Backward(lines) {
		if strings.HasPrefix(strings.ToUpper(line), "MAIL") {
			return line
		}
	}
	return ""
}

func (m *model) data(s *backendtest.Session, arg string) string {
	tried := false
	for _, line := range slices.Backward(s.Lines()) {
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		if tried = tried || verb == "RCPT"; verb == "MAIL" {
			break
		}
	}
	switch {
	case arg != "":
		return "501 5.5.4 Error: DATA has no argument"
	case s.From == "":
		return "503 5.5.1 Error: need MAIL command"
	case len(s.To) == 0 && !tried:
		return "503 5.5.1 Error: need RCPT command"
	case strings.Contains(strings.ToUpper(s.From), "BODY=BINARYMIME"): // RFC 3030, 3
		return "503 5.5.1 Error: BINARYMIME needs BDAT"
	}
	return ""
}

// envelope is strict about parameters.
func (m *model) envelope(s *backendtest.Session, verb, arg string) string {
	end := strings.IndexByte(arg, '>')
	switch {
	case s.Helo == "", verb == "MAIL" && s.From != "", verb == "RCPT" && s.From == "", end < 0:
		return ""
	case verb == "RCPT" && strings.HasPrefix(arg, "TO:<>"):
		return "501 5.1.3 Error: no recipient"
	}
	path, params := arg[:end], strings.Fields(arg[end+1:])
	seen := map[string]bool{}
	for _, p := range params {
		key, value, has := strings.Cut(p, "=")
		key = strings.ToUpper(key)
		owner := owners[verb][key]
		switch {
		case seen[key]:
			return "501 5.5.4 Error: twice"
		case key == "BODY" && m.offers("BINARYMIME") && s.Extended:
		case owner == "" || !m.offers(owner) || !s.Extended || owner == "REQUIRETLS" && !m.secure:
			return m.unknown(key, value, s.Extended)
		}
		seen[key] = true
		if problem := m.value(key, strings.ToUpper(value), has); problem != "" {
			return problem
		}
	}
	if verb == "RCPT" {
		seen["SMTPUTF8"] = strings.Contains(s.From, " SMTPUTF8")
	}
	switch {
	case verb == "RCPT" && m.offers("LIMITS") && len(s.To) >= 3:
		return "452 4.5.3 Error: too many recipients"
	case strings.ContainsFunc(path, func(r rune) bool { return r > 0x7f }) && !seen["SMTPUTF8"]:
		return "553 5.6.7 Error: SMTPUTF8, please"
	case strings.Contains(path, "refused@"):
		return "550-5.7.1 Error: we do not like\r\n550 5.7.1 this address"
	case strings.Contains(path, "later@"):
		return "450 4.2.0 Error: later"
	}
	return ""
}

// unknown refuses a parameter. Mail that would have to be converted is refused as such.
func (m *model) unknown(key, value string, extended bool) string {
	switch value = strings.ToUpper(value); {
	case extended && key == "BODY" && (value == "8BITMIME" || value == "BINARYMIME"):
		return "554 5.6.3 Error: conversion needed"
	case extended && key == "SMTPUTF8" && value == "":
		return "550 5.6.7 Error: no SMTPUTF8"
	}
	return "555 5.5.4 Error: unsupported option"
}

func (m *model) value(key, value string, has bool) string {
	switch key {
	case "SIZE":
		limit, _ := strconv.ParseInt(m.args["SIZE"], 10, 64)
		size, err := strconv.ParseUint(value, 10, 63)
		switch {
		case err != nil && strings.Trim(value, "0123456789") != "" || value == "":
			return "501 5.5.4 Error: SIZE"
		case err != nil || int64(size) > limit:
			return "552 5.3.4 Error: too much"
		}
	case "BODY":
		switch {
		case value == "7BIT", value == "8BITMIME" && m.offers("8BITMIME"), value == "BINARYMIME" && m.offers("BINARYMIME"):
		default:
			return m.unknown(key, value, true)
		}
	case "SMTPUTF8", "REQUIRETLS":
		if has {
			return "501 5.5.4 Error: it has no value"
		}
	}
	return ""
}
