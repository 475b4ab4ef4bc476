package arc

import (
	"slices"
	"strings"

	"gatepost/filters"
	"gatepost/filters/authres"
)

// trust is whom we believe, by d= of their seals.
type trust map[string]bool

// believed is the index of the set whose record counts, or -1 where there is none. The newest sealer must be a trusted
// one: whoever sealed last had the message in his hands and may have changed anything. Going back from there, every
// sealer that is trusted as well is believed what he says about the chain he got; the oldest of them saw the message
// closest to its origin. Behind the first stranger nothing is worth anything.
func (t trust) believed(c *chain) int {
	if c.result == Fail || !c.fromCovered {
		return -1
	}
	oldest := -1
	for i := len(c.seals) - 1; i >= 0 && t[c.seals[i].domain]; i-- {
		oldest = i
	}
	return oldest
}

// record is what a sealer wrote down about a message when it arrived there. What he did not say is empty.
type record struct {
	dmarc, from string // result, and the domain it is about (header.from)
	spf, dkim   string
}

// readRecord reads the results behind the instance (RFC 8617, 4.1.1).
func readRecord(payload string) record {
	var r record
	field, err := authres.Parse(payload)
	if err != nil {
		return r
	}
	for i := range field.Results {
		result := &field.Results[i]
		switch result.Method {
		case "dmarc":
			if r.dmarc == "" {
				r.dmarc, r.from = result.Result, property(result.Properties, "header", "from")
			}
		case "spf":
			// Some write down the check of the HELO name as well. The reverse-path is what counts.
			if r.spf == "" || property(result.Properties, "smtp", "mailfrom", "mfrom") != "" {
				r.spf = result.Result
			}
		case "dkim":
			// One signature that passes is enough.
			if r.dkim == "" || result.Result == "pass" {
				r.dkim = result.Result
			}
		}
	}
	return r
}

// property returns the first property of that type with one of the names. A domain is all that is wanted of them: an
// address is cut, and what is no name is nothing.
func property(properties []filters.AuthProperty, kind string, names ...string) string {
	for _, p := range properties {
		if p.Type != kind || !slices.Contains(names, p.Name) {
			continue
		}
		if domain, ok := filters.ASCIIName(p.Value[strings.LastIndexByte(p.Value, '@')+1:]); ok {
			return domain
		}
	}
	return ""
}
