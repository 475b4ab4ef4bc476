package dnsbl

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"gatepost/filters"
)

// Config is the section `filters.dnsbl:`.
type Config struct {
	// The lists to ask. Without any the filter does nothing and its facts are absent.
	Zones []Zone `yaml:"zones"`
}

// Zone is one list.
type Zone struct {
	// The domain of the list, such as zen.spamhaus.org.
	Zone string `yaml:"zone"`
	// What replies, logs and facts call the list; must be unique. Default: zone.
	Name string `yaml:"name"`
	// The key that some lists hand out; it goes before the zone in each question (address.key.zone) and nowhere else.
	Key filters.Secret `yaml:"key"`
	// What the list knows about: client (addresses) or domain (the names of client, EHLO and sender). Default: client.
	Kind string `yaml:"kind" values:"client domain"`
	// What an answer weighs: an address or a range such as 127.0.0.2-127.0.0.11, and points. Each entry counts once per
	// question. Negative points are credit, for lists of good senders. Answers that are not named weigh nothing.
	Codes map[string]float64 `yaml:"codes"`
	// Whether IPv4 clients are asked about: on or off. Default: on.
	IPv4 string `yaml:"ipv4" values:"on off"`
	// Whether IPv6 clients are asked about: on, off, or auto: if the list passes the test for IPv6. Default: auto.
	IPv6 string `yaml:"ipv6" values:"on off auto"`
	// Whether the list must pass the test of RFC 5782, 5 before it counts: on or off. Off is for lists that have no test
	// points: nothing then protects you from one that answers everything. Default: on.
	Test string `yaml:"test" values:"on off"`
}

// Defaults returns the configuration where nothing is configured.
func Defaults() Config { return Config{} }

const (
	kindClient = "client"
	kindDomain = "domain"

	maxZones = 64
)

// Validate implements the check that [filters.Define] describes.
func (c *Config) Validate() error {
	var errs filters.KeyErrors
	if len(c.Zones) > maxZones {
		errs.Add("zones", "are %d; at most %d can be asked about every client", len(c.Zones), maxZones)
	}
	names := map[string]bool{}
	for i := range c.Zones {
		z, at := &c.Zones[i], fmt.Sprintf("zones[%d]", i)
		z.validate(&errs, at)
		if names[z.name()] {
			errs.Add(at+".name", "%q is the name of another list already; give one of them another name", z.name())
		}
		names[z.name()] = true
	}
	return errs.OrNil()
}

func (z *Zone) validate(errs *filters.KeyErrors, at string) {
	if !isDomain(z.domain()) {
		errs.Add(at+".zone", "%q is not a domain such as zen.spamhaus.org", z.Zone)
	}
	if strings.ContainsFunc(z.Name, func(r rune) bool { return r < ' ' || r > '~' }) || len(z.Name) > 100 {
		errs.Add(at+".name", "must be at most 100 ASCII characters: it goes into replies")
	}
	if key := z.Key.Reveal(); key != "" && !isDomain(key+".invalid") {
		errs.Add(at+".key", "has characters that no domain can have, or is too long")
	}
	if z.Kind != "" && z.Kind != kindClient && z.Kind != kindDomain {
		errs.Add(at+".kind", "must be client or domain, not %q", z.Kind)
	}
	for _, s := range []struct{ key, value, also string }{{"ipv4", z.IPv4, ""}, {"ipv6", z.IPv6, "auto"}, {"test", z.Test, ""}} {
		if s.value != "" && s.value != "on" && s.value != "off" && s.value != s.also {
			errs.Add(at+"."+s.key, "must be on or off, not %q", s.value)
		}
	}
	if len(z.Codes) == 0 {
		errs.Add(at+".codes", "are missing: without them no answer means anything; write for example {127.0.0.2: 4}")
	}
	for _, text := range sortedKeys(z.Codes) {
		if _, err := parseRange(text); err != nil {
			errs.Add(at+".codes", "%w", err)
		}
		if w := z.Codes[text]; math.IsNaN(w) || math.Abs(w) > 1000 {
			errs.Add(at+".codes", "%s weighs %g; points are between -1000 and 1000", text, w)
		}
	}
}

func (z *Zone) domain() string { return strings.ToLower(strings.TrimSuffix(z.Zone, ".")) }

func (z *Zone) name() string {
	if z.Name != "" {
		return z.Name
	}
	return z.domain()
}

func sortedKeys(m map[string]float64) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
