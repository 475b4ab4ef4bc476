package greylist

import (
	"net/netip"
	"strings"

	"gatepost/filters"
)

// space is where the store keeps the marks of greylisting. Their keys:
//
//	d:example.org                     a domain that SPF proved
//	n:192.0.2.0/24|alice@example.org  a client network and a folded sender; nothing behind the bar: the null sender
//	o:192.0.2.0/24, o:alice@…, o:…    what an operator passed by hand: a network, a sender, a domain
const space = "greylist"

const (
	domainKey   = "d:"
	networkKey  = "n:"
	operatorKey = "o:"
)

// identity is who a transaction comes from, as far as greylisting can tell.
type identity struct {
	network string // of the client
	sender  string // folded; empty for the null sender
	domain  string // of the sender as it was given, in lower case; empty for the null sender
	proved  string // the domain that SPF proved, or empty
}

func (f *Filter) identify(v filters.View) identity {
	_, domain := filters.SplitAddress(v.Envelope.ReversePath)
	return identity{
		network: f.network(v.Session.Client.Addr()),
		sender:  filters.FoldSender(v.Envelope.ReversePath),
		domain:  domain,
		proved:  proved(v.Facts),
	}
}

// proved returns the domain that SPF authenticated. RFC 7208, 2.4: for the null reverse-path it is the HELO domain. A
// record that lets half the world send proves nothing; neither does one of which that is not known.
func proved(facts filters.Facts) string {
	if result, _ := facts.Text("spf.result"); result != "pass" {
		return ""
	}
	if wide, known := facts.Bool("spf.wide"); wide || !known {
		return ""
	}
	domain, _ := facts.Text("spf.domain")
	return normalDomain(domain)
}

// keys are those under which attempts are recorded. The first is the strongest.
func (id *identity) keys() []string {
	network := networkKey + id.network + "|" + id.sender
	switch {
	case id.proved == "":
		return []string{network}
	case id.sender == "":
		return []string{domainKey + id.proved}
	default:
		return []string{domainKey + id.proved, network}
	}
}

// operatorKeys are those that an operator may have passed by hand. Attempts never touch them: one retry must not let a
// whole network in.
func (id *identity) operatorKeys() []string {
	keys := []string{operatorKey + id.network}
	if id.sender != "" {
		keys = append(keys, operatorKey+id.sender, operatorKey+id.domain)
	}
	return keys
}

// network is the network of a client, as wide as its pools usually are.
func (f *Filter) network(client netip.Addr) string {
	client = client.Unmap().WithZone("")
	bits := f.config.IPv6Prefix
	if client.Is4() {
		bits = f.config.IPv4Prefix
	}
	prefix, err := client.Prefix(bits)
	if err != nil {
		return "unknown" // not an IP connection
	}
	return prefix.String()
}

func normalDomain(domain string) string { return strings.ToLower(strings.TrimSuffix(domain, ".")) }
