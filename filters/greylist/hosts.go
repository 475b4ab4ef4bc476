package greylist

import (
	"net/netip"
	"strings"

	"gatepost/filters"
)

// hosts names the group of hosts that a client belongs to: what is behind the first label of its confirmed name, such as
// outbound.mail.example for mta17.outbound.mail.example. It is empty for a client without such a name, and where the
// name is made of the address, as those of access networks are: there one name says nothing about the next.
func hosts(facts filters.Facts, client netip.Addr) string {
	if confirmed, _ := facts.Bool("rdns.confirmed"); !confirmed {
		return ""
	}
	name, _ := facts.Text("rdns.name")
	name = normalDomain(name)
	if filters.SpellsAddress(name, client) || filters.RegisteredDomain(name) == "" {
		return ""
	}
	if _, parent, found := strings.Cut(name, "."); found && filters.RegisteredDomain(parent) != "" {
		return parent
	}
	return name // a registered domain with an address of its own
}
