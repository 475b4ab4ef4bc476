package spf

import (
	"net/netip"
	"strings"

	"gatepost/filters"
)

// match tells whether a mechanism matches (RFC 7208, 5), or why the check ends here. reaches tells that the addresses
// it matches are passed by the whole check.
func (c *checker) match(t *term, domain string, reaches bool) (matched bool, failed Result) {
	switch t.kind {
	case kindAll:
		return true, ""
	case kindIP4, kindIP6:
		return t.prefix.Contains(c.client), ""
	}
	if !c.countTerm() {
		return false, PermError
	}
	target := domain
	if t.spec != "" {
		var ok bool
		// A name that cannot be asked does not exist (4.3 by analogy; 4.8 leaves it open). As there is no question, it
		// is no void look-up either. For an include there is no record then.
		if target, ok = c.target(t.spec, domain); !ok && t.kind != kindInclude {
			return false, ""
		}
	}
	switch t.kind {
	case kindInclude:
		return c.include(target, reaches)
	case kindA:
		return c.a(t, target, reaches)
	case kindMX:
		return c.mx(t, target, reaches)
	case kindPTR:
		return c.ptr(target)
	default:
		return c.exists(t, target, reaches)
	}
}

// include matches if the other record passes (RFC 7208, 5.2).
func (c *checker) include(target string, reaches bool) (bool, Result) {
	switch c.host(target, reaches).result {
	case Pass:
		return true, ""
	case Fail, SoftFail, Neutral:
		return false, ""
	case TempError:
		return false, TempError
	case None:
		c.fail(PermError, "there is no record to include at "+target)
	}
	return false, PermError
}

// a matches the addresses of a name (RFC 7208, 5.3).
func (c *checker) a(t *term, target string, reaches bool) (bool, Result) {
	addrs, failed := c.addresses(target)
	if failed != "" {
		return false, failed
	}
	if len(addrs) == 0 {
		return false, c.countVoid()
	}
	if reaches {
		c.passed.addHosts(t, addrs)
	}
	return c.contains(t, addrs), ""
}

// mx matches the addresses of a domain's exchangers (RFC 7208, 5.4). It does not take the domain itself for one.
func (c *checker) mx(t *term, target string, reaches bool) (bool, Result) {
	exchangers, failed := c.exchangers(target)
	if failed != "" {
		return false, failed
	}
	if len(exchangers) == 0 {
		return false, c.countVoid()
	}
	if len(exchangers) > maxNames {
		c.fail(PermError, "more than 10 mail exchangers at "+target)
		return false, PermError
	}
	anybody := isNullMX(exchangers)
	for _, exchanger := range exchangers {
		addrs, failed := c.addresses(exchanger.Host)
		if failed != "" {
			return false, failed
		}
		anybody = anybody || len(addrs) > 0
		if reaches {
			c.passed.addHosts(t, addrs)
		}
		if c.contains(t, addrs) {
			return true, ""
		}
	}
	if !anybody {
		return false, c.countVoid()
	}
	return false, ""
}

// isNullMX tells "no mail here" (RFC 7505), which is an answer.
func isNullMX(exchangers []filters.MX) bool { return len(exchangers) == 1 && exchangers[0].Host == "" }

// contains tells whether the client is in a network of one of addrs.
func (c *checker) contains(t *term, addrs []netip.Addr) bool {
	bits := t.bits(c.client)
	for _, addr := range addrs {
		if netip.PrefixFrom(addr, bits).Contains(c.client) {
			return true
		}
	}
	return false
}

// bits is the prefix length for the family of addr.
func (t *term) bits(addr netip.Addr) int {
	if addr.Is4() {
		return int(t.bits4)
	}
	return int(t.bits6)
}

// exists matches if the name has an IPv4 address, whatever family the client is of (RFC 7208, 5.7).
func (c *checker) exists(t *term, target string, reaches bool) (bool, Result) {
	addrs, failed := c.addresses4(target)
	if failed != "" {
		return false, failed
	}
	if len(addrs) == 0 {
		return false, c.countVoid()
	}
	if reaches && !usesMacro(t.spec, "ip") {
		c.passed.everybody = true
	}
	return true, ""
}

// ptr matches if one of the client's names that lead back to it is in the target domain (RFC 7208, 5.5). DNS errors do
// not count here, and neither do void look-ups: both are in the hands of the client, not of the domain.
func (c *checker) ptr(target string) (bool, Result) {
	for i, name := range c.clientNames() {
		if isWithin(name, target) && c.leadsBack(i) {
			return true, ""
		}
	}
	if c.ctx.Err() != nil {
		c.fail(TempError, "no time left")
		return false, TempError
	}
	return false, ""
}

// pointers are the names of the client, asked once for all ptr mechanisms and %{p} macros.
type pointers struct {
	asked  bool
	names  []string
	states [maxNames]pointerState
}

type pointerState uint8

const (
	pointerUnknown pointerState = iota
	pointerBack
	pointerAstray
)

// clientNames are the names of the client's address, ten at most (RFC 7208, 4.6.4), not verified.
func (c *checker) clientNames() []string {
	p := &c.pointers
	if !p.asked {
		p.asked = true
		names := c.clientPointers()
		p.names = names[:min(len(names), maxNames)]
	}
	return p.names
}

// leadsBack tells whether the client is among the addresses of its i-th name.
func (c *checker) leadsBack(i int) bool {
	p := &c.pointers
	if p.states[i] == pointerUnknown {
		p.states[i] = pointerAstray
		for _, addr := range c.nameAddresses(p.names[i]) {
			if addr == c.client {
				p.states[i] = pointerBack
			}
		}
	}
	return p.states[i] == pointerBack
}

// clientName is what %{p} stands for: a verified name of the client, of those the domain itself or one in it if there
// is one (RFC 7208, 7.3).
func (c *checker) clientName(domain string) string {
	names := c.clientNames()
	for _, fits := range [...]func(name, domain string) bool{equalNames, isWithin, anyName} {
		for i, name := range names {
			if fits(name, domain) && c.leadsBack(i) {
				return strings.TrimSuffix(name, ".")
			}
		}
	}
	return "unknown"
}

func equalNames(name, domain string) bool {
	return strings.EqualFold(strings.TrimSuffix(name, "."), strings.TrimSuffix(domain, "."))
}

// isWithin tells whether name is domain or below it.
func isWithin(name, domain string) bool {
	name, domain = strings.TrimSuffix(name, "."), strings.TrimSuffix(domain, ".")
	cut := len(name) - len(domain)
	return cut >= 0 && strings.EqualFold(name[cut:], domain) && (cut == 0 || name[cut-1] == '.')
}

func anyName(string, string) bool { return true }
