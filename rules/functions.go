package rules

import (
	"errors"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/gaissmai/bart"
)

var functionNames = []string{"known", "in_network", "in_domain", "in_list", "lower", "len", "header"}

// function is a function of the language. compile finds as many arguments as min and max say.
type function struct {
	usage    string
	min, max int
	compile  func(c *compiler, n *ast.CallNode) (value, bool)
}

func functionNamed(name string) (f function, ok bool) {
	switch name {
	case "known":
		return function{"known(fact)", 1, 1, (*compiler).known}, true
	case "in_network":
		return function{`in_network(address, "192.0.2.0/24", …)`, 2, maxEntries, (*compiler).inNetwork}, true
	case "in_domain":
		return function{`in_domain(domain, "example.org", …)`, 2, maxEntries, (*compiler).inDomain}, true
	case "in_list":
		return function{`in_list(fact, "file")`, 2, 2, (*compiler).inList}, true
	case "lower":
		return function{"lower(text)", 1, 1, (*compiler).lower}, true
	case "len":
		return function{"len(text or list)", 1, 1, (*compiler).length}, true
	case "header":
		return function{`header("Subject")`, 1, 1, (*compiler).header}, true
	}
	return function{}, false
}

func (c *compiler) call(n *ast.CallNode) (value, bool) {
	callee, ok := n.Callee.(*ast.IdentifierNode)
	if !ok {
		c.failAt(n, "facts have no methods; functions are: %s", strings.Join(functionNames, ", "))
		return value{}, false
	}
	f, ok := functionNamed(callee.Value)
	if !ok {
		c.failAt(n, "there is no function %s%s", quote(callee.Value), suggest(callee.Value, functionNames))
		return value{}, false
	}
	if c.unusualCall(n) {
		c.failAt(n, "a function is called like this: %s", f.usage)
		return value{}, false
	}
	if len(n.Arguments) < f.min || len(n.Arguments) > f.max {
		c.failAt(n, "wrong number of arguments: %s", f.usage)
		return value{}, false
	}
	return f.compile(c, n)
}

// unusualCall finds x | f() and ::f(), which the parser turns into f(x) and f().
func (c *compiler) unusualCall(n *ast.CallNode) bool {
	before := c.source.Text[:byteOffset(c.source.Text, n.Location().From)]
	return strings.HasSuffix(strings.TrimSpace(before), "::") ||
		len(n.Arguments) > 0 && n.Arguments[0].Location().From < n.Location().From
}

func (c *compiler) known(n *ast.CallNode) (value, bool) {
	v, ok := c.value(n.Arguments[0])
	if !ok {
		return value{}, false
	}
	if v.fact == nil {
		c.failAt(start(n.Arguments[0]), "known() asks for a fact and not for an expression")
		return value{}, false
	}
	return conditionValue(known{v.fact}), true
}

func (c *compiler) lower(n *ast.CallNode) (value, bool) {
	v, ok := c.argument(n, Text)
	if !ok {
		return value{}, false
	}
	return value{kind: Text, what: "lower(" + v.what + ")", text: lowered{v.text}}, true
}

func (c *compiler) length(n *ast.CallNode) (value, bool) {
	v, ok := c.argument(n, Text, List)
	if !ok {
		return value{}, false
	}
	result := value{kind: Number, what: "len(" + v.what + ")", number: textLength{v.text}}
	if v.kind == List {
		result.number = listLength{v.list}
	}
	return result, true
}

// argument compiles the first argument, which must be of one of the kinds and no literal.
func (c *compiler) argument(n *ast.CallNode, kinds ...Kind) (value, bool) {
	name := n.Callee.(*ast.IdentifierNode).Value
	v, ok := c.value(n.Arguments[0])
	if !ok {
		return value{}, false
	}
	if !slices.Contains(kinds, v.kind) {
		names := make([]string, len(kinds))
		for i, k := range kinds {
			names[i] = k.phrase()
		}
		c.failAt(start(n.Arguments[0]), "%s is %s; %s() needs %s", v.what, v.kind.phrase(), name, strings.Join(names, " or "))
		return value{}, false
	}
	if v.fixed {
		c.failAt(n.Arguments[0], "the first argument of %s() must be a fact", name)
		return value{}, false
	}
	return v, true
}

// literals are the arguments after the first.
func (c *compiler) literals(n *ast.CallNode, check func(literal string) error) bool {
	f, _ := functionNamed(n.Callee.(*ast.IdentifierNode).Value)
	ok := true
	for _, argument := range n.Arguments[1:] {
		literal, isText := argument.(*ast.StringNode)
		if !isText {
			c.failAt(start(argument), "a text in quotes belongs here: %s", f.usage)
			ok = false
			continue
		}
		if err := check(literal.Value); err != nil {
			c.failAt(argument, "%v", err)
			ok = false
		}
	}
	return ok
}

func (c *compiler) inNetwork(n *ast.CallNode) (value, bool) {
	networks := new(bart.Lite)
	good := c.literals(n, func(literal string) error {
		network, err := parseNetwork(literal)
		if err == nil {
			networks.Insert(network)
		}
		return err
	})
	v, ok := c.argument(n, Address)
	if !ok || !good {
		return value{}, false
	}
	return conditionValue(single[address]{v.address, networks.Lookup}), true
}

func (c *compiler) inDomain(n *ast.CallNode) (value, bool) {
	var domains []string
	good := c.literals(n, func(literal string) error {
		domain, err := parseDomain(literal)
		domains = append(domains, domain)
		return err
	})
	v, ok := c.argument(n, Text, List)
	if !ok || !good {
		return value{}, false
	}
	return c.anyText(v, func(s string) bool {
		s = domainOf(s)
		return slices.ContainsFunc(domains, func(domain string) bool {
			return suffixFold(s, domain) && (len(s) == len(domain) || s[len(s)-len(domain)-1] == '.')
		})
	}), true
}

// anyText tests a text, or whether any entry of a list passes. It looks through lower(): what it is given folds anyway.
func (c *compiler) anyText(v value, test func(string) bool) value {
	if v.kind == List {
		return conditionValue(single[[]string]{v.list, func(list []string) bool { return slices.ContainsFunc(list, test) }})
	}
	operand := v.text
	if x, ok := operand.(lowered); ok {
		operand = x.operand
	}
	return conditionValue(single[string]{operand, test})
}

func (c *compiler) inList(n *ast.CallNode) (value, bool) {
	var name string
	good := c.literals(n, func(literal string) error {
		name = literal
		if name == "" || len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }) {
			return errors.New("the name of a list file belongs here")
		}
		return nil
	})
	v, ok := c.argument(n, Text, List, Address)
	if !ok || !good {
		return value{}, false
	}
	if c.lists == nil {
		c.failAt(n, "there are no list files here")
		return value{}, false
	}
	at := c.at(n.Arguments[1])
	c.named = append(c.named, name)
	if v.kind == Address {
		networks := c.lists.networks(name, at, c.problems)
		return conditionValue(single[address]{v.address, networks.Lookup}), true
	}
	return c.anyText(v, c.lists.names(name, at, c.problems).has), true
}

func (c *compiler) header(n *ast.CallNode) (value, bool) {
	literal, ok := n.Arguments[0].(*ast.StringNode)
	switch {
	case !ok:
		c.failAt(start(n.Arguments[0]), `the name of a header field in quotes belongs here: header("Subject")`)
		return value{}, false
	case !isFieldName(literal.Value):
		c.failAt(literal, "%s is not the name of a header field", quote(literal.Value))
		return value{}, false
	case c.schema.header == nil:
		c.failAt(n, "there is no message here that has a header")
		return value{}, false
	}
	name := textproto.CanonicalMIMEHeaderKey(literal.Value)
	c.read(c.schema.header)
	if !slices.Contains(c.headers, name) {
		c.headers = append(c.headers, name)
	}
	return value{kind: Text, what: factOfHeader(name), text: headerField{c.schema.header, name}}, true
}

// isFieldName follows RFC 5322, 2.2: printable ASCII without the colon. 77 bytes are more than any field has.
func isFieldName(s string) bool {
	return s != "" && len(s) <= 77 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == ':' || r > '~' })
}

// parseNetwork reads a network or a single address.
func parseNetwork(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, errors.New(quote(s) + " is neither an IP address nor a network such as 192.0.2.0/24")
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	network, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, errors.New(quote(s) + " is not a network such as 192.0.2.0/24")
	case network.Addr().Is4In6() && network.Bits() < 96:
		return netip.Prefix{}, errors.New(quote(s) + " is half IPv4: write 0.0.0.0/0 or an IPv6 network")
	case network.Addr().Is4In6():
		network = netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-96)
	}
	if network != network.Masked() {
		return netip.Prefix{}, errors.New(quote(s) + " is not the start of its network, did you mean " + network.Masked().String() + "?")
	}
	return network, nil
}
