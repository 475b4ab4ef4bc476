package dkim

import (
	"context"
	"strconv"
	"sync"

	"gatepost/filters"
)

// Spec describes the filter.
var Spec = filters.Define("dkim", "Who has signed this message, and is it unchanged (DKIM, RFC 6376)?", Defaults, New,
	filters.On(filters.AtMessage, (*Filter).Message, filters.Repeatable()))

// Config says what is left to choose.
type Config struct {
	// Whether the signature of a key in test mode (t=y) counts like others. RFC 6376 wants such a message treated as if
	// it were unsigned; many domains have left the flag in their keys for years, and other receivers ignore it.
	AcceptTestKeys bool `yaml:"accept_test_keys"`
}

// Defaults returns the configuration where nothing is configured.
func Defaults() Config { return Config{} }

// Filter checks signatures. It is safe for concurrent use.
type Filter struct {
	config   Config
	env      filters.Env
	keys     *keyCache
	reported sync.Once // that we and go-msgauth differ about a signature
}

// New makes the filter.
func New(config Config, env filters.Env) (*Filter, error) {
	return &Filter{config: config, env: env, keys: &keyCache{}}, nil
}

// Facts is what the signatures say. The lists about single signatures have one entry for each that was looked at, the
// first five from the top, in the message's order.
type Facts struct {
	// Result for all signatures together: "pass" if one passes, else the first of temperror, fail, policy, permerror
	// and neutral that one of them has. "none" for an unsigned message.
	Result string `fact:"result" values:"none pass fail policy neutral temperror permerror"`
	// Why the first signature that does not pass does not, else empty.
	Reason string `fact:"reason"`
	// Domains (d=) whose signatures pass, with A-labels and in lower case, each once.
	Domains []string `fact:"domains"`
	// Domains (d=) whose keys could not be had now, each once. A later try may give another result for them.
	Undecided []string `fact:"undecided"`
	// Number of signatures, also of those beyond the fifth.
	Signatures int `fact:"signatures"`
	// Result of each signature.
	Results []string `fact:"results"`
	// Domain (d=) of each signature, with A-labels and in lower case. Empty where it is malformed.
	Signers []string `fact:"signers"`
	// Selector (s=) of each signature. Empty where it is malformed.
	Selectors []string `fact:"selectors"`
	// Algorithm (a=) of each signature. Empty where it is unknown.
	Algorithms []string `fact:"algorithms"`
	// Size of each signature's key in bits. "0" where no key was found or looked for.
	KeyBits []string `fact:"key_bits"`
	// Why each signature did not pass; empty for one that did.
	Reasons []string `fact:"reasons"`
	// What is peculiar about each signature: any of "length" (l=), "expired" (x=) and "testing" (t=y), with blanks between;
	// empty for most.
	Marks []string `fact:"marks"`
	// Some signature leaves the end of the body unsigned (l=). Such a signature never passes.
	LengthUsed bool `fact:"length_used"`
	// Some signature has expired (x=).
	Expired bool `fact:"expired"`
	// Some signature's key is in test mode (t=y).
	Testing bool `fact:"testing"`

	refused    bool
	signatures []*signature
}

// Message checks the signatures while the message arrives. For an unsigned message it is done when the header is.
func (f *Filter) Message(ctx context.Context, v filters.View) (*Facts, error) {
	c := check{resolver: f.env.Resolver, now: f.env.Clock.Now(), testKeys: f.config.AcceptTestKeys, keys: f.keys}
	if err := c.run(ctx, v.Message); err != nil {
		return nil, err
	}
	if c.differs != nil {
		f.report(c.differs)
	}
	return c.facts(), nil
}

// report tells of a mistake, of ours or of go-msgauth. One is enough to look for it, and a sender who has found it could
// have any number logged.
func (f *Filter) report(s *signature) {
	f.reported.Do(func() {
		f.env.Log.Warn("a DKIM signature passes that is good to go-msgauth but not to our own check: please report it; others are not logged",
			"domain", s.domain, "selector", s.selector, "b", s.prefix)
	})
}

// precedence orders the results of signatures for the result of all of them: what a later try could still turn into a
// pass comes first, then what says most about the message.
var precedence = [...]Result{Pass, TempError, Fail, Policy, PermError, Neutral}

func (c *check) facts() *Facts {
	f := &Facts{Result: string(None), Signatures: c.count}
	if c.refused.result != "" {
		f.refused, f.Result, f.Reason = true, string(c.refused.result), c.refused.reason
		return f
	}
	f.signatures = c.signatures
	n := len(c.signatures)
	if n == 0 {
		return f
	}
	columns := make([]string, 7*n)
	column := func() []string {
		free := columns[:0:n]
		columns = columns[n:]
		return free
	}
	f.Results, f.Signers, f.Selectors, f.Algorithms, f.KeyBits = column(), column(), column(), column(), column()
	f.Reasons, f.Marks = column(), column()
	rank := len(precedence)
	for _, s := range c.signatures {
		f.Results = append(f.Results, string(s.result))
		f.Signers = append(f.Signers, s.domain)
		f.Selectors = append(f.Selectors, s.selector)
		f.Algorithms = append(f.Algorithms, s.algorithm)
		f.KeyBits = append(f.KeyBits, strconv.Itoa(s.bits))
		f.Reasons = append(f.Reasons, s.reason)
		f.Marks = append(f.Marks, s.marks())
		f.LengthUsed = f.LengthUsed || s.lengthUsed
		f.Expired = f.Expired || s.expired
		f.Testing = f.Testing || s.test
		if f.Reason == "" {
			f.Reason = s.reason
		}
		switch s.result {
		case Pass:
			f.Domains = appendNew(f.Domains, s.domain)
		case TempError:
			f.Undecided = appendNew(f.Undecided, s.domain)
		}
		for i := range rank {
			if precedence[i] == s.result {
				rank = i
				break
			}
		}
	}
	f.Result = string(precedence[rank])
	return f
}

func appendNew(list []string, item string) []string {
	for _, present := range list {
		if present == item {
			return list
		}
	}
	return append(list, item)
}

var _ filters.AuthReporter = (*Facts)(nil)

// AuthResults reports each signature (RFC 8601, 2.7.1).
func (f *Facts) AuthResults(*filters.Session) []filters.AuthResult {
	if f.refused || len(f.signatures) == 0 {
		return []filters.AuthResult{{Method: "dkim", Result: f.Result, Reason: f.Reason}}
	}
	results := make([]filters.AuthResult, len(f.signatures))
	for i, s := range f.signatures {
		results[i] = filters.AuthResult{Method: "dkim", Result: string(s.result), Reason: s.reason}
		for _, p := range [...]filters.AuthProperty{
			{Type: "header", Name: "d", Value: s.domain}, {Type: "header", Name: "i", Value: s.identity},
			{Type: "header", Name: "s", Value: s.selector}, {Type: "header", Name: "a", Value: s.algorithm},
			{Type: "header", Name: "b", Value: s.prefix},
		} {
			if p.Value != "" {
				results[i].Properties = append(results[i].Properties, p)
			}
		}
	}
	return results
}
