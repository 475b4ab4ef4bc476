package greylist

import (
	"net/netip"
	"slices"
	"strings"

	"gatepost/filters"
)

// space is where the store keeps the marks of greylisting. Their keys:
//
//	d:example.org                     a domain that SPF proved: the pool of all addresses in its record
//	n:192.0.2.0/24|alice@example.org  a client network and a folded sender; nothing behind the bar: the null sender
//	h:mail.example|alice@example.org  a group of hosts by their confirmed names, and a folded sender
//	p:mail.example|example.org        a group of hosts from which signed mail of the domain came: its pool
//	o:192.0.2.0/24, o:alice@…, o:…    what an operator passed by hand: a network, a sender, a domain
const space = "greylist"

const (
	domainKey   = "d:"
	networkKey  = "n:"
	hostsKey    = "h:"
	poolKey     = "p:"
	operatorKey = "o:"
)

var keyKinds = []string{domainKey, networkKey, hostsKey, poolKey, operatorKey}

// identity is who a transaction comes from, as far as greylisting can tell.
type identity struct {
	network string // of the client
	hosts   string // the group of the client; empty where there is none, or where it must not or need not count
	sender  string // folded; empty for the null sender
	domain  string // of the sender as it was given, in lower case; empty for the null sender
	proved  string // the domain that SPF proved, or empty
	forged  bool   // the domain says by SPF that the client must not use it
}

func (f *Filter) identify(v filters.View) identity {
	_, domain := filters.SplitAddress(v.Envelope.ReversePath)
	client := v.Session.Client.IP
	id := identity{
		network: f.network(client),
		sender:  filters.FoldSender(v.Envelope.ReversePath),
		domain:  domain,
		proved:  proved(v.Facts),
	}
	result, _ := v.Facts.Text("spf.result")
	id.forged = result == "fail"
	if domain != "" && mayPool(result) {
		id.hosts = hosts(v.Facts, client)
	}
	return id
}

// mayPool tells of a result of SPF that the client's group of hosts may count. A domain that lets everybody send has no
// pool, its hosts count one by one; neither has one of which that is not known now. One that SPF proves needs none.
func mayPool(result string) bool {
	switch result {
	case "none", "neutral", "softfail", "fail", "permerror":
		return true
	}
	return false
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

// keys are those under which attempts are recorded. The first is the strongest. The group of hosts counts only where SPF
// proves nothing: a domain that it proves needs no other pool.
func (id *identity) keys() []string {
	network := networkKey + id.network + "|" + id.sender
	switch {
	case id.hosts != "":
		return []string{network, hostsKey + id.hosts + "|" + id.sender}
	case id.proved == "":
		return []string{network}
	case id.sender == "":
		return []string{domainKey + id.proved}
	default:
		return []string{domainKey + id.proved, network}
	}
}

// beside are those that let pass and that attempts never touch: what an operator passed by hand, as one retry must not let
// a whole network in, and the pool that signed mail has taught.
func (id *identity) beside() []string {
	keys := []string{operatorKey + id.network}
	if id.sender != "" {
		keys = append(keys, operatorKey+id.sender, operatorKey+id.domain)
	}
	if pool := id.pool(); pool != "" {
		keys = append(keys, pool)
	}
	return keys
}

// pool is the key of the pool that the client may be of; empty where SPF proves the domain, or proves it forged.
func (id *identity) pool() string {
	if id.hosts == "" || id.forged {
		return ""
	}
	return poolKey + id.hosts + "|" + id.domain
}

// signed tells whether a signature of the sender's own organisation passed (DKIM, RFC 6376). Who replays somebody's signed
// mail from hosts of his own under that sender's name teaches that, too: what he gains is not to be told to come back, which
// he could have by coming back.
func (id *identity) signed(facts filters.Facts) bool {
	domains, _ := facts.List("dkim.domains")
	return slices.ContainsFunc(domains, func(d string) bool { return filters.IsSameOrganization(d, id.domain) })
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
