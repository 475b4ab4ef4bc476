package spf

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"gatepost/filters"

	"golang.org/x/net/idna"
)

// Limits of one check (RFC 7208, 4.6.4).
const (
	maxTerms = 10 // mechanisms and modifiers that ask the DNS
	maxVoids = 2  // of these, the ones whose question had no answer
	maxNames = 10 // exchangers of one mx; names of the client
	// maxQueries bounds what the limits of the RFC multiply up to (over a hundred): ten mx with ten exchangers each.
	// What needs more is treated like any other record beyond the limits.
	maxQueries = 25
)

// Result is the outcome of a check (RFC 7208, 2.6).
type Result string

// The results.
const (
	None      Result = "none"
	Neutral   Result = "neutral"
	Pass      Result = "pass"
	Fail      Result = "fail"
	SoftFail  Result = "softfail"
	TempError Result = "temperror"
	PermError Result = "permerror"
)

// Query is who is checked.
type Query struct {
	IP netip.Addr
	// Helo is the argument of HELO or EHLO, as sent.
	Helo string
	// Sender is the reverse-path without angle brackets. Where it is empty the HELO name is checked, with postmaster
	// as the local part (RFC 7208, 2.4).
	Sender string
	// Receiver is our name and Now the time. Only explanations use them.
	Receiver string
	Now      time.Time
}

// Outcome is what a check found.
type Outcome struct {
	Result Result
	// Domain is the domain that was checked, with A-labels and in lower case. Empty where there was none to check.
	Domain string
	// Identity is "mailfrom" or "helo".
	Identity string
	// Mechanism is the one that matched, as written in the record, at most 255 bytes. Empty where none did. In an
	// include it is the include.
	Mechanism string
	// Explanation is the domain's text for a fail: printable ASCII of at most 400 bytes, otherwise not to be trusted.
	// Empty where there is none.
	Explanation string
	// Problem says in a few words why the result is temperror or permerror.
	Problem string
	// Wide tells that a pass says nothing, as the record passes nearly everybody.
	Wide bool
	// Queries is the number of questions asked; never more than 25.
	Queries int
}

const (
	maxMechanism   = 255
	maxExplanation = 400
)

// lookupNames maps U-labels to A-labels. Underscores are no host names, but common in mail domains.
var lookupNames = idna.New(idna.MapForLookup(), idna.StrictDomainName(false))

// Check is check_host() (RFC 7208, 4). It never fails: a resolver that does, or a context that ends, makes a temperror.
func Check(ctx context.Context, resolver filters.Resolver, q Query) Outcome {
	o := Outcome{Identity: "mailfrom"}
	local, domain := filters.SplitAddress(q.Sender)
	if q.Sender == "" {
		o.Identity, local, domain = "helo", "", strings.ToLower(strings.TrimSuffix(q.Helo, "."))
	}
	if local == "" {
		local = "postmaster" // RFC 7208, 4.3
	}
	domain, ok := toASCII(domain)
	if !ok || !isSenderDomain(domain) {
		o.Result = None
		return o
	}
	o.Domain = domain
	c := checker{
		ctx: ctx, resolver: resolver,
		client: q.IP.Unmap().WithZone(""), local: local, origin: domain, helo: q.Helo, receiver: q.Receiver, now: q.Now,
	}
	v := c.host(domain, true)
	o.Result, o.Mechanism, o.Problem = v.result, v.mechanism[:min(len(v.mechanism), maxMechanism)], c.problem
	switch v.result {
	case Fail:
		o.Explanation = c.explain(v)
	case Pass:
		o.Wide = c.passed.wide()
	}
	o.Queries = c.queries
	return o
}

// toASCII gives a domain with A-labels, or false for one that has no such form.
func toASCII(domain string) (string, bool) {
	if isASCII(domain) {
		return domain, true
	}
	// idna replaces what is no UTF-8 without a word.
	if len(domain) > 4*maxName || !utf8.ValidString(domain) {
		return "", false
	}
	ascii, err := lookupNames.ToASCII(domain)
	return ascii, err == nil
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// isSenderDomain tells whether a domain can have a record at all (RFC 7208, 4.3): it is fit for a question, has more
// than one label, and is no address, literal or not.
func isSenderDomain(domain string) bool {
	dot := strings.LastIndexByte(domain, '.')
	return dot > 0 && domain[0] != '[' && isTopLabel(domain[dot+1:]) && isAskable(domain)
}

// checker is the state of one check across its records.
type checker struct {
	ctx      context.Context
	resolver filters.Resolver

	client   netip.Addr
	local    string // of the sender
	origin   string // domain of the sender
	helo     string
	receiver string
	now      time.Time

	terms, voids, queries int
	problem               string
	pointers              pointers
	passed                extent
}

// termSpace holds room for the terms of a usual record; longer ones get their own. The strings that stay behind in it
// are parts of records in the resolver's cache.
var termSpace = sync.Pool{New: func() any { return new([16]term) }}

// verdict is the result of one record.
type verdict struct {
	result    Result
	mechanism string
	exp       string // the domain-spec of exp=
	domain    string // whose record it was
}

// host evaluates the record of a domain. reaches tells that a pass of it is a pass of the whole check, so that the
// addresses it passes count. The recursion is bounded by the limit on terms.
func (c *checker) host(domain string, reaches bool) verdict {
	if !isSenderDomain(domain) {
		return verdict{result: None}
	}
	text, failed := c.record(domain)
	if failed != "" {
		return verdict{result: failed}
	}
	space := termSpace.Get().(*[16]term)
	defer termSpace.Put(space)
	r, bad := parseRecord(text, space[:0])
	if bad != "" {
		return c.fail(PermError, "syntax error in the record of "+domain+" at "+bad[:min(len(bad), 40)])
	}
	if reaches {
		c.passed.addRecord(r.terms)
	}
	for i := range r.terms {
		t := &r.terms[i]
		matched, failed := c.match(t, domain, reaches && t.result == Pass)
		if failed != "" {
			return verdict{result: failed}
		}
		if matched {
			return verdict{result: t.result, mechanism: t.text, exp: r.exp, domain: domain}
		}
	}
	if r.redirect == "" {
		return verdict{result: Neutral}
	}
	if !c.countTerm() {
		return verdict{result: PermError}
	}
	target, _ := c.target(r.redirect, domain)
	v := c.host(target, reaches)
	if v.result == None {
		return c.fail(PermError, "the redirect of "+domain+" leads to no record") // RFC 7208, 6.1
	}
	return v
}

// fail notes why a check cannot be finished. The first reason stays.
func (c *checker) fail(result Result, problem string) verdict {
	if c.problem == "" {
		c.problem = printable(problem, maxExplanation)
	}
	return verdict{result: result}
}

// countTerm counts a term that asks the DNS and tells whether it still may.
func (c *checker) countTerm() bool {
	if c.terms++; c.terms > maxTerms {
		c.fail(PermError, "more than 10 terms that ask the DNS")
		return false
	}
	return true
}

// countVoid counts a term without an answer. It returns permerror when there are too many. The RFC counts terms here,
// not questions (4.6.4): an mx with three exchangers that have no IPv6 address is one.
func (c *checker) countVoid() Result {
	if c.voids++; c.voids > maxVoids {
		c.fail(PermError, "more than 2 terms without an answer")
		return PermError
	}
	return ""
}
