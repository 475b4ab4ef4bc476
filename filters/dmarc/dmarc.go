package dmarc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"gatepost/filters"
)

// Spec describes the filter. It looks twice: the record is looked for as soon as the header is here, beside SPF and
// DKIM; the message is judged when they are done.
var Spec = filters.Define("dmarc", "Is the domain in From authenticated, and what does its owner want if not (DMARC, RFC 9989)?",
	Defaults, New,
	filters.On(filters.AtMessage, (*Filter).Record, filters.Repeatable()),
	filters.On(filters.AtMessage, (*Filter).Message, filters.After("spf", "dkim", "arc", "dmarc"), filters.Repeatable()))

// Ways to find the organizational domain.
const (
	treeWalk = "tree_walk"
	list     = "psl"
)

// maxOverrides bounds the lists of forwarders and mailing lists.
const maxOverrides = 1000

// Config says what is left to choose.
type Config struct {
	// How to find the organizational domain: `tree_walk` asks the DNS (RFC 9989), `psl` takes it from the public suffix
	// list that is built in (RFC 7489).
	OrganizationalDomain string `yaml:"organizational_domain"`
	// Forwarders whose mail may fail: their networks, or domains that SPF or DKIM authenticates. They set the fact
	// dmarc.override for a message that fails; rules decide what follows.
	TrustedForwarders []string `yaml:"trusted_forwarders"`
	// Mailing lists whose mail may fail: domains that SPF or DKIM authenticates. They set the fact dmarc.override for a
	// message that fails; rules decide what follows.
	MailingLists []string `yaml:"mailing_lists"`
	// Aggregate reports for the owners of the domains in From.
	Reports ReportConfig `yaml:"reports"`
}

// Defaults returns the configuration where nothing is configured.
func Defaults() Config { return Config{OrganizationalDomain: treeWalk, Reports: defaultReports()} }

// Validate checks the configuration.
func (c *Config) Validate() error {
	var errs filters.KeyErrors
	if c.OrganizationalDomain != treeWalk && c.OrganizationalDomain != list {
		errs.Add("organizational_domain", "%q is neither tree_walk nor psl", c.OrganizationalDomain)
	}
	for i, entry := range c.TrustedForwarders {
		if _, err := parseForwarder(entry); err != nil {
			errs.Add("trusted_forwarders["+strconv.Itoa(i)+"]", "%v", err)
		}
	}
	for i, domain := range c.MailingLists {
		if _, ok := filters.ASCIIName(domain); !ok {
			errs.Add("mailing_lists["+strconv.Itoa(i)+"]", "%q is not a domain such as lists.example.org", domain)
		}
	}
	if len(c.TrustedForwarders) > maxOverrides || len(c.MailingLists) > maxOverrides {
		errs.Add("trusted_forwarders", "at most %d entries are allowed here and in mailing_lists", maxOverrides)
	}
	c.Reports.validate(&errs)
	return errs.OrNil()
}

// Filter judges messages. It is safe for concurrent use.
type Filter struct {
	config    Config
	env       filters.Env
	overrides overrides
	collector *collector // nil while no reports are wanted
}

// New makes the filter.
func New(config Config, env filters.Env) (*Filter, error) {
	f := &Filter{config: config, env: env, overrides: newOverrides(&config)}
	if env.Log == nil {
		f.env.Log = slog.New(slog.DiscardHandler)
	}
	if config.Reports.Enabled {
		f.collector = newCollector(config.Reports, f.env)
	}
	return f, nil
}

func (f *Filter) tree(ctx context.Context) *tree {
	t := &tree{ctx: ctx, resolver: f.env.Resolver, listed: f.config.OrganizationalDomain == list}
	t.asked = t.space[:0]
	return t
}

// RecordFacts is what the owner of the domain in From has published.
type RecordFacts struct {
	// Domain in From, with A-labels and in lower case. Empty if there is not exactly one.
	Domain string `fact:"domain"`
	// Domain whose record applies: that in From, or one above it. Empty if there is none.
	RecordDomain string `fact:"record_domain"`
	// The record that applies, as it was published, in printable ASCII. Empty if there is none.
	Record string `fact:"record"`
	// Organizational domain of the domain in From. Empty if it is not known.
	Organizational string `fact:"organizational"`
	// Policy that the domain's owner wants applied if the message fails, with sp, np and t taken into account. It is
	// here whatever the result; "none" where there is no record.
	Policy string `fact:"policy" values:"none quarantine reject"`
	// The owner is only testing its policy (t=y).
	Testing bool `fact:"testing"`
	// Why the domain in From or the policy is not known for certain, else empty.
	RecordProblem string `fact:"record_problem"`
}

// Record finds the author's domain and its record. It is done when the header and the DNS are.
func (f *Filter) Record(ctx context.Context, v filters.View) (*RecordFacts, error) {
	header, err := v.Message.Header(ctx)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	author, err := authorDomain(header)
	if err != nil {
		return &RecordFacts{RecordProblem: err.Error(), Policy: policyNone.String()}, nil
	}
	return lookUp(f.tree(ctx), author), nil
}

// Facts is what DMARC says about the message.
type Facts struct {
	// Result of the check. "none": the domain has no DMARC record. "temperror": the DNS failed, and the result may hang
	// on it. "permerror": there is not exactly one domain in From.
	Result string `fact:"result" values:"none pass fail temperror permerror"`
	// Why the result is temperror or permerror, else empty.
	Problem string `fact:"problem"`
	// Which of the two authenticates the domain in From: "spf", "dkim", "spf+dkim", or empty.
	Aligned string `fact:"aligned"`
	// Why a failure may be expected of an honest message: it came by one of trusted_forwarders or from one of
	// mailing_lists, or a trusted sealer of its ARC chain saw it pass. "none" for all others, and without a failure.
	// Absent while that hangs on a key of the chain that cannot be had now.
	Override *string `fact:"override" values:"none trusted_forwarder mailing_list"`
	// The entry of the configuration, or "arc" and the sealer, to which the override is due. Empty if there is none.
	OverrideBy string `fact:"override_by"`

	domain, recordDomain, policy string
}

// Message judges a message when SPF and DKIM have done so. Without the facts of both it fails, unless those that there
// are suffice for a pass: a filter that is off or out of order must not make mail look forged.
func (f *Filter) Message(ctx context.Context, v filters.View) (*Facts, error) {
	p, ok := readPublished(v.Facts)
	if !ok {
		return nil, errors.New("the domain in From could not be looked at")
	}
	facts, ok := check(f.tree(ctx), p, readIdentifiers(v.Facts))
	if !ok {
		return nil, errors.New("spf and dkim have not both given a result; dmarc needs them")
	}
	reason, known := noOverride, true
	if facts.Result == string(Fail) {
		reason, facts.OverrideBy, known = f.overrides.find(v, p.domain)
	}
	if known {
		facts.Override = &reason
	}
	return facts, nil
}

var _ filters.AuthReporter = (*Facts)(nil)

// AuthResults reports the check (RFC 8601, 2.2; header.from and policy.dmarc are in its registry).
func (f *Facts) AuthResults(*filters.Session) []filters.AuthResult {
	r := filters.AuthResult{Method: "dmarc", Result: f.Result, Reason: f.Problem}
	if f.domain != "" {
		r.Properties = append(r.Properties, filters.AuthProperty{Type: "header", Name: "from", Value: f.domain})
	}
	if f.recordDomain != "" {
		r.Properties = append(r.Properties, filters.AuthProperty{Type: "policy", Name: "dmarc", Value: f.policy})
	}
	return []filters.AuthResult{r}
}
