package doctor

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"gatepost/filters"
)

// maxDomains bounds how many domains are looked up.
const maxDomains = 20

// exchangers is the mail exchangers of our domains that lead to this machine, as far as the machine can tell.
type exchangers struct {
	ours   []string
	others []string
}

// addressesOf asks for both families.
func (x *examiner) addressesOf(ctx context.Context, host string) ([]netip.Addr, error) {
	if x.dns == nil {
		return nil, errNoDNS
	}
	four, err := x.dns.LookupA(ctx, host)
	six, err6 := x.dns.LookupAAAA(ctx, host)
	if all := append(slices.Clone(four), six...); len(all) > 0 {
		return all, nil
	}
	return nil, errors.Join(err, err6)
}

// isHere tells whether one of the addresses is this machine's.
func (x *examiner) isHere(all []netip.Addr) bool {
	own, err := x.machine.addresses()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(all, func(a netip.Addr) bool { return slices.Contains(own, a.Unmap()) })
}

func (x *examiner) exchangersOf(ctx context.Context, domain string) (e exchangers, err error) {
	if x.dns == nil {
		return e, errNoDNS
	}
	all, err := x.dns.LookupMX(ctx, domain)
	if err != nil {
		return e, err
	}
	for _, mx := range all {
		host := strings.ToLower(strings.TrimSuffix(mx.Host, "."))
		here := strings.EqualFold(host, x.Config.Hostname)
		if !here {
			addresses, _ := x.addressesOf(ctx, host)
			here = x.isHere(addresses)
		}
		if here {
			e.ours = append(e.ours, host)
		} else {
			e.others = append(e.others, host)
		}
	}
	return e, nil
}

// plainDomains are those that a look-up can be made for.
func (x *examiner) plainDomains() []string {
	var list []string
	for _, d := range x.Config.Domains {
		if !strings.HasPrefix(d, ".") && len(list) < maxDomains {
			list = append(list, d)
		}
	}
	return list
}

// checkNames looks whether the DNS knows this machine as what it says it is.
func (x *examiner) checkNames(ctx context.Context, f *findings) {
	if len(x.Config.Listen) == 0 || submissionOnly(x.Config.Listen) {
		return
	}
	host := x.Config.Hostname
	addresses, err := x.addressesOf(ctx, host)
	switch {
	case err != nil || len(addresses) == 0:
		f.add(Warning, host, "the host name has no address: other servers distrust one that they cannot look up").saw("%v", err).
			advise("set hostname: to the name that the MX records of your domains name")
	case !x.isHere(addresses):
		f.add(Notice, host, "leads to an address that is not this machine's own: right behind NAT or a load balancer, else not").saw("%v", addresses)
	default:
		f.add(OK, host, "leads to this machine").saw("%v", addresses)
	}
	for _, domain := range x.plainDomains() {
		e, err := x.exchangersOf(ctx, domain)
		switch {
		case errors.Is(err, filters.ErrNXDomain) || err == nil && len(e.ours)+len(e.others) == 0:
			f.add(Warning, domain, "has no MX record").saw("%s", noText(err)).advise("publish: %s. MX 10 %s.", domain, host)
		case err != nil:
			f.add(Warning, domain, "its MX records could not be looked up").saw("%v", err)
		case len(e.ours) == 0:
			f.add(Warning, domain, "no MX record leads to this machine").saw("MX: %s", strings.Join(e.others, ", ")).
				advise("right behind NAT, or before the move; else publish: %s. MX 10 %s.", domain, host)
		default:
			f.add(OK, domain, "its mail comes to this machine").saw("MX: %s", strings.Join(append(e.ours, e.others...), ", "))
		}
	}
}

func noText(err error) string {
	if err == nil {
		return "an empty answer"
	}
	return err.Error()
}
