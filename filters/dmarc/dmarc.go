package dmarc

import (
	"context"
	"errors"
	"fmt"

	"gatepost/filters"
)

// Spec describes the filter.
var Spec = filters.Define("dmarc", "Is the domain in From authenticated, and what does its owner want if not (DMARC, RFC 9989)?",
	Defaults, New, filters.On(filters.AtMessage, (*Filter).Message, filters.After("spf", "dkim")))

// Ways to find the organizational domain.
const (
	treeWalk = "tree_walk"
	list     = "psl"
)

// Config says what is left to choose.
type Config struct {
	// How to find the organizational domain: `tree_walk` asks the DNS (RFC 9989), `psl` takes it from the public suffix
	// list that is built in (RFC 7489).
	OrganizationalDomain string `yaml:"organizational_domain"`
}

// Defaults returns the configuration where nothing is configured.
func Defaults() Config { return Config{OrganizationalDomain: treeWalk} }

// Validate checks the configuration.
func (c *Config) Validate() error {
	var errs filters.KeyErrors
	if c.OrganizationalDomain != treeWalk && c.OrganizationalDomain != list {
		errs.Add("organizational_domain", "%q is neither tree_walk nor psl", c.OrganizationalDomain)
	}
	return errs.OrNil()
}

// Filter judges messages. It is safe for concurrent use.
type Filter struct {
	config Config
	env    filters.Env
}

// New makes the filter.
func New(config Config, env filters.Env) (*Filter, error) { return &Filter{config, env}, nil }

// Facts is what DMARC says about the message.
type Facts struct {
	// Result of the check. "none": the domain has no DMARC record. "temperror": the DNS failed, and the result may hang
	// on it. "permerror": there is not exactly one domain in From.
	Result string `fact:"result" values:"none pass fail temperror permerror"`
	// Why the result is temperror or permerror, else empty.
	Problem string `fact:"problem"`
	// Policy that the domain's owner wants applied if the message fails, with sp, np and t taken into account. It is
	// here whatever the result; "none" where there is no record.
	Policy string `fact:"policy" values:"none quarantine reject"`
	// Domain in From, with A-labels and in lower case. Empty if there is not exactly one.
	Domain string `fact:"domain"`
	// Domain whose record applies: that in From, or one above it. Empty if there is none.
	RecordDomain string `fact:"record_domain"`
	// Organizational domain of the domain in From. Empty if it is not known.
	Organizational string `fact:"organizational"`
	// Which of the two authenticates the domain in From: "spf", "dkim", "spf+dkim", or empty.
	Aligned string `fact:"aligned"`
	// Why a failure does not count, else empty. Always empty so far.
	Override string `fact:"override"`
	// The owner is only testing its policy (t=y).
	Testing bool `fact:"testing"`
}

// Message judges a message when SPF and DKIM have done so. Without the facts of both it fails, unless those that there
// are suffice for a pass: a filter that is off or out of order must not make mail look forged.
func (f *Filter) Message(ctx context.Context, v filters.View) (*Facts, error) {
	header, err := v.Message.Header(ctx)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	author, err := authorDomain(header)
	if err != nil {
		return &Facts{Result: string(PermError), Problem: err.Error(), Policy: policyNone.String()}, nil
	}
	t := &tree{ctx: ctx, resolver: f.env.Resolver, listed: f.config.OrganizationalDomain == list}
	facts, ok := check(t, author, readIdentifiers(v.Facts))
	if !ok {
		return nil, errors.New("spf and dkim have not both given a result; dmarc needs them")
	}
	return facts, nil
}

// AuthResults reports the check (RFC 8601, 2.2; header.from and policy.dmarc are in its registry).
func (f *Facts) AuthResults() []filters.AuthResult {
	r := filters.AuthResult{Method: "dmarc", Result: f.Result, Reason: f.Problem}
	if f.Domain != "" {
		r.Properties = append(r.Properties, filters.AuthProperty{Type: "header", Name: "from", Value: f.Domain})
	}
	if f.RecordDomain != "" {
		r.Properties = append(r.Properties, filters.AuthProperty{Type: "policy", Name: "dmarc", Value: f.Policy})
	}
	return []filters.AuthResult{r}
}
