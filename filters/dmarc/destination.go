package dmarc

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"

	"gatepost/filters"
	"gatepost/filters/dmarc/report"
)

// maxDestinations bounds the addresses of one domain that are looked at; what is behind them is not there.
const maxDestinations = 10

// destinations are the addresses that a record asks to report to (RFC 9990, "Transport"), each with the reason if it
// cannot be used. domain is where the record was found.
func (f *Filter) destinations(ctx context.Context, domain, rua string) []report.Destination {
	t := f.tree(ctx)
	var list []report.Destination
	for _, uri := range splitURIs(rua) {
		for _, d := range t.permitted(domain, parseDestination(uri)) {
			if d.Address == "" || !contains(list, d.Address) {
				list = append(list, d)
			}
		}
	}
	return list
}

func contains(list []report.Destination, address string) bool {
	for i := range list {
		if list[i].Address == address {
			return true
		}
	}
	return false
}

func splitURIs(rua string) []string {
	var uris []string
	for uri := range strings.SplitSeq(rua, ",") {
		if uri = strings.Trim(uri, " \t"); uri != "" && len(uris) < maxDestinations {
			uris = append(uris, uri)
		}
	}
	return uris
}

// parseDestination reads "mailto:dmarc@example.org!10m". Header fields in the URI (RFC 6068) are not for strangers to
// choose: they are cut.
func parseDestination(uri string) report.Destination {
	d := report.Destination{URI: uri}
	scheme, rest, _ := strings.Cut(uri, ":")
	if !strings.EqualFold(scheme, "mailto") {
		d.Problem = "is not mailto:"
		return d
	}
	if bang := strings.LastIndexByte(rest, '!'); bang >= 0 {
		limit, ok := parseLimit(rest[bang+1:])
		if !ok {
			d.Problem = "has a malformed size limit"
			return d
		}
		rest, d.Limit = rest[:bang], limit
	}
	rest, _, _ = strings.Cut(rest, "?")
	address, err := url.PathUnescape(rest)
	if err == nil {
		var local, host string
		if local, host, err = parseAddress(address); err == nil {
			d.Address = local + "@" + host
			return d
		}
	}
	d.Problem = errAddress.Error()
	return d
}

// parseLimit reads a number of bytes with an optional unit (RFC 7489, 6.4).
func parseLimit(text string) (int64, bool) {
	shift := 0
	if n := len(text) - 1; n > 0 {
		if unit := strings.IndexByte("kmgt", text[n]|0x20); unit >= 0 {
			text, shift = text[:n], 10*(unit+1)
		}
	}
	limit, err := strconv.ParseUint(text, 10, 62-shift)
	return int64(limit << shift), err == nil && limit > 0
}

func hostOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

// permitted returns the destination as it may be used: one of another organization must have said that it wants reports
// about the domain, or anybody could have them sent to a victim (RFC 9990, "Verifying External Destinations").
func (t *tree) permitted(domain string, d report.Destination) []report.Destination {
	if d.Address == "" {
		return []report.Destination{d}
	}
	refuse := func(problem string) []report.Destination {
		return []report.Destination{{URI: d.URI, Limit: d.Limit, Problem: problem}}
	}
	host := hostOf(d.Address)
	same, err := t.sameOrganization(domain, host)
	if err != nil {
		return refuse("it is not known now whether it belongs to the domain: " + errorDNS)
	}
	if same {
		return []report.Destination{d}
	}
	name := domain + "._report._dmarc." + host
	if len(name) > filters.MaxName {
		return refuse("cannot be asked whether it wants reports: the name is too long")
	}
	texts, err := t.resolver.LookupTXT(t.ctx, name)
	switch {
	case errors.Is(err, filters.ErrNXDomain):
		texts = nil
	case err != nil:
		return refuse("it is not known now whether it wants reports: " + errorDNS)
	}
	verified := false
	for _, text := range texts {
		if !isRecord(text) {
			continue
		}
		verified = true
		if rua := parseTags(text).value("rua"); rua != "" {
			return t.replaced(d, printable(rua), host)
		}
	}
	if !verified {
		return refuse(name + " does not say that it wants reports")
	}
	return []report.Destination{d}
}

// replaced are the addresses that the destination wants to be used instead of the one in the domain's record. They must
// be on the same host.
func (t *tree) replaced(d report.Destination, rua, host string) []report.Destination {
	var list []report.Destination
	for _, uri := range splitURIs(rua) {
		other := parseDestination(uri)
		if other.Address != "" && hostOf(other.Address) != host {
			return []report.Destination{{URI: d.URI, Limit: d.Limit, Problem: "wants its reports sent to another host, " + hostOf(other.Address)}}
		}
		list = append(list, other)
	}
	return list
}

// sameOrganization tells whether two domains belong together.
func (t *tree) sameOrganization(a, b string) (bool, error) {
	if a == b {
		return true, nil
	}
	one, err := t.organizationOf(a)
	if err != nil {
		return false, err
	}
	other, err := t.organizationOf(b)
	return err == nil && one == other, err
}
