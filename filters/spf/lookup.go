package spf

import (
	"errors"
	"net/netip"
	"strings"

	"gatepost/filters"
)

// maxName is the length of a domain name in presentation form (RFC 1035, 2.3.4).
const maxName = 253

// target makes the name that a domain-spec stands for. ok is false where the DNS cannot be asked for it.
func (c *checker) target(spec, domain string) (name string, ok bool) {
	name = spec
	if strings.IndexByte(spec, '%') >= 0 {
		if !isASCII(c.local) && usesMacro(spec, "sl") {
			return "", false // RFC 8616, 4: never matches
		}
		var space [256]byte
		b, ok := c.expand(space[:0], spec, nameLetters, domain)
		if !ok {
			return "", false
		}
		name = string(b)
	}
	name = strings.TrimSuffix(name, ".")
	// RFC 7208, 7.3: too long a name loses labels on the left.
	for len(name) > maxName {
		_, rest, found := strings.Cut(name, ".")
		if !found {
			return "", false
		}
		name = rest
	}
	return name, isAskable(name)
}

// isAskable tells whether a name can be put into a question (RFC 1035, 2.3.4). Expanded macros may hold anything.
func isAskable(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	label := 0
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
		case c < ' ' || c >= 0x7f || label == 63:
			return false
		default:
			label++
		}
	}
	return label > 0
}

// mayAsk spends one query on a name. Without the second result there is nothing to ask; a failure says why the check is
// over.
func (c *checker) mayAsk(name string) (question string, ask bool, failed Result) {
	if !isAskable(name) {
		return "", false, ""
	}
	if c.queries >= maxQueries {
		c.fail(PermError, "more than 25 queries")
		return "", false, PermError
	}
	c.queries++
	// In presentation form a backslash begins an escape (RFC 1035, 5.1); here it is a character.
	if strings.IndexByte(name, '\\') >= 0 {
		name = strings.ReplaceAll(name, `\`, `\\`)
	}
	return name, true, ""
}

// judge tells what a resolver's error means. A name that does not exist is an empty answer.
func (c *checker) judge(name string, err error) Result {
	if err == nil || errors.Is(err, filters.ErrNXDomain) {
		return ""
	}
	c.fail(TempError, "no usable answer for "+name)
	return TempError
}

// record finds the one SPF record of a domain (RFC 7208, 4.4 and 4.5).
func (c *checker) record(domain string) (text string, failed Result) {
	question, ask, failed := c.mayAsk(domain)
	if !ask {
		if failed == "" {
			failed = None
		}
		return "", failed
	}
	texts, err := c.resolver.LookupTXT(c.ctx, question)
	if failed = c.judge(domain, err); failed != "" {
		return "", failed
	}
	found := false
	if err == nil {
		for _, t := range texts {
			if !isRecord(t) {
				continue
			}
			if found {
				c.fail(PermError, "several records at "+domain)
				return "", PermError
			}
			text, found = t, true
		}
	}
	if !found {
		return "", None
	}
	return text, ""
}

// addresses asks for the addresses of a name in the client's family, and only in that one. None is no failure.
func (c *checker) addresses(name string) (addrs []netip.Addr, failed Result) {
	if c.client.Is4() {
		return c.addresses4(name)
	}
	question, ask, failed := c.mayAsk(name)
	if !ask {
		return nil, failed
	}
	addrs, err := c.resolver.LookupAAAA(c.ctx, question)
	if err != nil {
		return nil, c.judge(name, err)
	}
	return addrs, ""
}

func (c *checker) addresses4(name string) (addrs []netip.Addr, failed Result) {
	question, ask, failed := c.mayAsk(name)
	if !ask {
		return nil, failed
	}
	addrs, err := c.resolver.LookupA(c.ctx, question)
	if err != nil {
		return nil, c.judge(name, err)
	}
	return addrs, ""
}

func (c *checker) exchangers(name string) (exchangers []filters.MX, failed Result) {
	question, ask, failed := c.mayAsk(name)
	if !ask {
		return nil, failed
	}
	exchangers, err := c.resolver.LookupMX(c.ctx, question)
	if err != nil {
		return nil, c.judge(name, err)
	}
	return exchangers, ""
}

// clientPointers asks for the client's names. Any failure means that there are none (RFC 7208, 5.5).
func (c *checker) clientPointers() []string {
	if c.queries >= maxQueries {
		return nil
	}
	c.queries++
	names, err := c.resolver.LookupPTR(c.ctx, c.client)
	if err != nil {
		return nil
	}
	return names
}

// nameAddresses asks for the addresses of one of the client's names. A failure skips the name (RFC 7208, 5.5), and the
// client must not be able to fail the check by the number of its names.
func (c *checker) nameAddresses(name string) []netip.Addr {
	name = strings.TrimSuffix(name, ".")
	if c.queries >= maxQueries || !isAskable(name) {
		return nil
	}
	c.queries++
	lookup := c.resolver.LookupAAAA
	if c.client.Is4() {
		lookup = c.resolver.LookupA
	}
	addrs, err := lookup(c.ctx, name)
	if err != nil {
		return nil
	}
	return addrs
}
