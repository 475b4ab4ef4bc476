package dmarc

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"gatepost/filters"
)

// Reasons for which an honest message may fail (RFC 7960), in the words of aggregate reports (RFC 9990).
const (
	noOverride       = "none"
	trustedForwarder = "trusted_forwarder"
	mailingList      = "mailing_list"
)

// forwarder is an entry of trusted_forwarders: a network, or a domain.
type forwarder struct {
	entry   string
	network netip.Prefix
	domain  string
}

func parseForwarder(entry string) (forwarder, error) {
	f := forwarder{entry: entry}
	if address, err := netip.ParseAddr(entry); err == nil && address.Zone() == "" {
		f.network = netip.PrefixFrom(address.Unmap(), address.Unmap().BitLen())
		return f, nil
	}
	if network, err := netip.ParsePrefix(entry); err == nil {
		if network != network.Masked() {
			return f, fmt.Errorf("%s has host bits set; the network is %s", entry, network.Masked())
		}
		f.network = network
		return f, nil
	}
	domain, ok := filters.ASCIIName(entry)
	if !ok || !strings.Contains(domain, ".") {
		return f, fmt.Errorf("%q is neither a network such as 192.0.2.0/24 nor a domain such as forwarder.example.org", entry)
	}
	f.domain = domain
	return f, nil
}

// overrides are the senders of whom failures are expected.
type overrides struct {
	forwarders []forwarder
	lists      map[string]bool
}

// newOverrides reads a valid configuration.
func newOverrides(c *Config) overrides {
	o := overrides{lists: make(map[string]bool, len(c.MailingLists))}
	for _, entry := range c.TrustedForwarders {
		if f, err := parseForwarder(entry); err == nil {
			o.forwarders = append(o.forwarders, f)
		}
	}
	for _, domain := range c.MailingLists {
		if name, ok := filters.ASCIIName(domain); ok {
			o.lists[name] = true
		}
	}
	return o
}

// find tells why this message, from an author of that domain, may have failed through no fault of its sender. A domain
// counts only where SPF or DKIM vouches for it; an ARC chain only if it is trusted and its record is about this author.
// known is false while it is open whether the chain is trusted.
func (o *overrides) find(v filters.View, author string) (reason, by string, known bool) {
	ids := readIdentifiers(v.Facts)
	authenticated := slices.Concat(ids.spf, ids.dkim)
	for i := range o.forwarders {
		f := &o.forwarders[i]
		if f.network.IsValid() && f.network.Contains(v.Session.Client.IP.Unmap().WithZone("")) || f.domain != "" && slices.Contains(authenticated, f.domain) {
			return trustedForwarder, f.entry, true
		}
	}
	for _, domain := range authenticated {
		if o.lists[domain] {
			return mailingList, domain, true
		}
	}
	trusted, decided := v.Facts.Bool("arc.trusted")
	if chain, _ := v.Facts.Text("arc.result"); !decided && chain == "temperror" {
		return "", "", false
	}
	recorded, _ := v.Facts.Text("arc.recorded_dmarc")
	from, _ := v.Facts.Text("arc.recorded_from")
	if trusted && recorded == "pass" && from == author {
		sealer, _ := v.Facts.Text("arc.recorded_by")
		return trustedForwarder, "arc " + sealer, true
	}
	return noOverride, "", true
}
