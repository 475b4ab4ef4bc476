package arc

import (
	"context"
	"net/netip"
	"strconv"

	"gatepost/filters"
)

// Spec describes the filter.
var Spec = filters.Define("arc", "What did the servers on its way say about this message (ARC, RFC 8617)?", Defaults, New,
	filters.On(filters.AtMessage, (*Filter).Message, filters.Repeatable()))

// maxTrusted bounds the list of trusted sealers.
const maxTrusted = 1000

// Config is the section `filters.arc:`.
type Config struct {
	// Domains (d= of ARC-Seal) whose seals you believe: forwarders and mailing lists that check what they get and write
	// down what they found. A subdomain is another domain. A chain is worth something only if it was sealed last by one
	// of these. Anybody can seal anything: without a list no chain is trusted.
	TrustedSealers []string `yaml:"trusted_sealers"`
}

// Defaults returns the configuration where nothing is configured.
func Defaults() Config { return Config{} }

// Validate implements the check that [filters.Define] describes.
func (c *Config) Validate() error {
	var errs filters.KeyErrors
	if len(c.TrustedSealers) > maxTrusted {
		errs.Add("trusted_sealers", "are %d; at most %d are allowed", len(c.TrustedSealers), maxTrusted)
	}
	for i, domain := range c.TrustedSealers {
		if _, ok := filters.ASCIIName(domain); !ok {
			errs.Add("trusted_sealers["+strconv.Itoa(i)+"]", "%q is not a domain such as lists.example.org", domain)
		}
	}
	return errs.OrNil()
}

// Filter validates chains. It is safe for concurrent use.
type Filter struct {
	env     filters.Env
	trusted trust
}

// New makes the filter.
func New(config Config, env filters.Env) (*Filter, error) {
	f := &Filter{env: env, trusted: make(trust, len(config.TrustedSealers))}
	for _, domain := range config.TrustedSealers {
		name, _ := filters.ASCIIName(domain)
		f.trusted[name] = true
	}
	return f, nil
}

// Facts is what is known of the message's chain.
type Facts struct {
	// Result of the validation of the chain. "temperror": nothing is wrong so far, but a key cannot be had now; RFC 8617
	// calls that a fail.
	Result string `fact:"result" values:"none pass fail temperror"`
	// Why the result is fail or temperror, else empty.
	Reason string `fact:"reason"`
	// Number of ARC sets; 0 if they are not complete.
	Instances int `fact:"instances"`
	// Domains (d=) of the seals, oldest first, with A-labels and in lower case. They are proved only if the result is
	// pass.
	Sealers []string `fact:"sealers"`
	// The chain passes, was sealed last by one of trusted_sealers, and every From field is signed. Absent while that
	// depends on a key that cannot be had now.
	Trusted *bool `fact:"trusted"`
	// Domain of the trusted sealer whose record the recorded_ facts are: the one closest to the origin behind whom all
	// sealers are trusted. These facts are empty where nothing was recorded or the chain is not trusted, and absent
	// together with trusted.
	RecordedBy *string `fact:"recorded_by"`
	// DMARC result that it recorded.
	RecordedDMARC *string `fact:"recorded_dmarc"`
	// Domain in From that the recorded DMARC result is about, in lower case.
	RecordedFrom *string `fact:"recorded_from"`
	// SPF result that it recorded, for the reverse-path if there are several.
	RecordedSPF *string `fact:"recorded_spf"`
	// DKIM result that it recorded: pass if one signature passed, else that of the first.
	RecordedDKIM *string `fact:"recorded_dkim"`

	client netip.Addr
}

// unsealed are the facts of a message without a chain, which most are.
var unsealed = func() *Facts {
	f := &Facts{Result: string(None)}
	f.believe(record{}, "")
	return f
}()

// Message validates the chain while the message arrives. Without a chain it is done when the header is.
func (f *Filter) Message(ctx context.Context, v filters.View) (*Facts, error) {
	c, err := validate(ctx, f.env.Resolver, f.env.Clock.Now(), v.Message)
	if err != nil {
		return nil, err
	}
	if c.result == None {
		return unsealed, nil
	}
	facts := &Facts{
		Result: string(c.result), Reason: c.reason, Instances: len(c.sets),
		client: v.Session.Client.IP.Unmap().WithZone(""),
	}
	for i := range c.seals {
		facts.Sealers = append(facts.Sealers, c.seals[i].domain)
	}
	believed := f.trusted.believed(&c)
	switch {
	case believed < 0:
		facts.believe(record{}, "")
	case c.result == Pass:
		facts.believe(readRecord(c.sets[believed].payload), c.seals[believed].domain)
	}
	return facts, nil
}

// believe sets the facts about trust; without a sealer there is none.
func (f *Facts) believe(r record, sealer string) {
	trusted := sealer != ""
	f.Trusted, f.RecordedBy = &trusted, &sealer
	f.RecordedDMARC, f.RecordedFrom, f.RecordedSPF, f.RecordedDKIM = &r.dmarc, &r.from, &r.spf, &r.dkim
}

var _ filters.AuthReporter = (*Facts)(nil)

// AuthResults reports the chain (RFC 8617, 6). The registry knows no temporary error.
func (f *Facts) AuthResults(*filters.Session) []filters.AuthResult {
	r := filters.AuthResult{Method: "arc", Result: f.Result, Reason: f.Reason}
	if f.Result == string(TempError) {
		r.Result = string(Fail)
	}
	if f.client.IsValid() {
		r.Properties = []filters.AuthProperty{{Type: "smtp", Name: "remote-ip", Value: f.client.String()}}
	}
	return []filters.AuthResult{r}
}
