package backend

import (
	"slices"
	"strings"
)

// Keyword is an extension that needs nothing of a relay but to pass its parameters on: it is offered, and they pass, when
// the operator names it.
type Keyword struct{ Name, Args string }

func (k Keyword) String() string { return strings.TrimSpace(k.Name + " " + k.Args) }

// parameters are those that an extension adds to a command.
type parameters struct{ mail, rcpt []string }

// passed is the extensions of which we know that nothing else comes of them. Not here, because they change what is said
// when: PRDR (several final replies), PIPECONNECT, CHECKPOINT, BURL, CONNEG, XEXDATA.
var passed = map[string]parameters{
	"DELIVERBY":     {mail: []string{"BY"}},                   // RFC 2852
	"FUTURERELEASE": {mail: []string{"HOLDFOR", "HOLDUNTIL"}}, // RFC 4865
	"MT-PRIORITY":   {mail: []string{"MT-PRIORITY"}},          // RFC 6710
	"MTRK":          {mail: []string{"MTRK"}},                 // RFC 3885
	"NO-SOLICITING": {mail: []string{"SOLICIT"}},              // RFC 3865
	"RRVS":          {rcpt: []string{"RRVS"}},                 // RFC 7293
	"SUBMITTER":     {mail: []string{"SUBMITTER"}},            // RFC 4405
	"XVERP":         {mail: []string{"XVERP"}},                // Postfix, Courier
}

// changing is keywords of private extensions that change the dialogue and so must not pass.
var changing = []string{"XCLIENT", "XFORWARD", "XEXDATA", "XEXCH50", "X-EXPS", "X-LINK2STATE", "XSECURITY", "XADR", "XREMOTEQUEUE",
	"X-ANONYMOUSTLS", "X-EXCHANGEAUTH", "XSHADOW", "XSHADOWREQUEST", "X-EXPROPS", "XRCPTFORWARD", "XPROXY", "XPROXYFROM", "XPROXYTO", "XSYSPROBE", "XORIGFROM"}

// passable tells whether a keyword may pass when the operator names it. Of private ones (RFC 5321, 2.2.2: X…) he has to
// know that they are of this kind; parameters have the keyword's name.
func passable(keyword string) bool {
	keyword = strings.ToUpper(keyword)
	if _, known := passed[keyword]; known {
		return true
	}
	return len(keyword) > 1 && keyword[0] == 'X' && !slices.Contains(changing, keyword) && isKeyword(keyword)
}

// isKeyword checks ehlo-keyword (RFC 5321, 4.1.1.1).
func isKeyword(s string) bool {
	return len(s) <= 64 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == "" && s[0] != '-'
}

// maxPassed bounds the keywords that pass, and maxPassedArgs what stands behind one.
const (
	maxPassed     = 32
	maxPassedArgs = 256
)

// pass adds a keyword, in the order of names.
func (e *Extensions) pass(name, args string) {
	if len(e.Passed) >= maxPassed || len(args) > maxPassedArgs || !printable(args) {
		return
	}
	at, found := slices.BinarySearchFunc(e.Passed, name, func(k Keyword, name string) int { return strings.Compare(k.Name, name) })
	if !found {
		e.Passed = slices.Insert(e.Passed, at, Keyword{name, args})
	}
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// passedByBoth is what both offer in the same words: of other words we do not know which promise less.
func passedByBoth(a, b []Keyword) []Keyword {
	var both []Keyword
	for _, k := range a {
		if slices.Contains(b, k) {
			both = append(both, k)
		}
	}
	return both
}

// PassesMail tells whether a parameter of MAIL belongs to an extension that is only passed on.
func (e *Extensions) PassesMail(key string) bool {
	return e.passes(key, func(p parameters) []string { return p.mail })
}

// PassesRcpt tells whether a parameter of RCPT does.
func (e *Extensions) PassesRcpt(key string) bool {
	return e.passes(key, func(p parameters) []string { return p.rcpt })
}

func (e *Extensions) passes(key string, of func(parameters) []string) bool {
	for _, k := range e.Passed {
		p, known := passed[k.Name]
		if known && slices.Contains(of(p), strings.ToUpper(key)) || !known && strings.EqualFold(k.Name, key) {
			return true
		}
	}
	return false
}
