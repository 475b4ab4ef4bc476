package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"unicode"

	"gatepost/filters"
	"gatepost/proxy"
	"gatepost/proxy/called"
	"gatepost/proxy/control"
	"gatepost/rules"
)

// validate asks a section whether its values make sense.
func (d *document) validate(path string, section any) {
	if v, ok := section.(interface{ Validate() error }); ok {
		d.validated(path, v.Validate())
	}
}

// validated adds what a section found wrong with itself.
func (d *document) validated(path string, err error) {
	var keys filters.KeyErrors
	switch {
	case err == nil:
	case errors.As(err, &keys):
		for _, k := range keys {
			full := path
			if k.Key != "" {
				full = join(path, k.Key)
			}
			if !d.isBroken(full) {
				d.problem(d.place(full), "%s: %v", full, k.Err)
			}
		}
	case !d.isBroken(path):
		d.problem(d.place(path), "%s: %v", path, err)
	}
}

// check looks at the sections, then at what only the whole can tell.
func (d *document) check(c *Config) {
	if d.isBroken("") {
		return
	}
	if len(c.Listen) > 0 || !c.called() {
		d.checkListen(c.Listen)
	}
	d.checkCalled(c)
	if len(c.Listen) > 0 || !c.called() || len(c.Backend.Address) > 0 { // who is called needs none
		d.validate("backend", &c.Backend)
	}
	d.validate("resolver", &c.Resolver)
	d.validate("store", &c.Store)
	d.checkSocketPath(c.Store.Path)
	d.validate("journal", &c.Journal)
	if c.Journal.Path == c.Store.Path && !d.isBroken("journal") {
		d.problem(d.place("journal.path"), "journal.path: %s is the folder of the store; the journal needs one of its own", c.Journal.Path)
	}
	d.validate("quarantine", &c.Quarantine)
	if (c.Quarantine.Path == c.Store.Path || c.Quarantine.Path == c.Journal.Path) && !d.isBroken("quarantine") {
		d.problem(d.place("quarantine.path"), "quarantine.path: %s is the folder of the store or the journal; the quarantine needs one of its own", c.Quarantine.Path)
	}
	d.validate("limits", &c.Limits)
	d.validate("authentication_results", &c.AuthenticationResults)
	d.validate("log", &c.Log)
	d.validate("admin", &c.Admin)
	d.validated("backend", c.Backend.ValidateDomains(len(c.Domains) > 0))
	for i, name := range c.Domains {
		if !validDomain(strings.TrimPrefix(name, ".")) && !d.isBroken(fmt.Sprintf("domains[%d]", i)) {
			d.problem(d.place(fmt.Sprintf("domains[%d]", i)), "domains[%d]: %q is not a domain name%s", i, name, domainAdvice(name))
		}
	}
	if !validDomain(c.Hostname) && !d.isBroken("hostname") {
		d.problem(d.place("hostname"), "hostname: %q is not a host name", c.Hostname)
	}
	d.checkReaddressing(c)
	if c.Group != "" && c.User == "" {
		d.problem(d.place("group"), "group: means nothing without user")
	}
	d.warnOfEverybody("trusted", c.Trusted, "passes all rules")
	for i, l := range c.Listen {
		d.warnOfEverybody(fmt.Sprintf("listen[%d].proxy_from", i), l.ProxyFrom, "may say that it is another client")
		d.warnOfEverybody(fmt.Sprintf("listen[%d].xclient_from", i), l.XClientFrom, "may say that it is another client")
	}
}

// maxSocketPath is how long the name of a UNIX socket can be on every system that we know (sockaddr_un).
const maxSocketPath = 103

func (d *document) checkSocketPath(folder string) {
	if n := len(filepath.Join(folder, control.Name)); n > maxSocketPath {
		d.problem(d.place("store.path"), "store.path: %s is too long by %d characters: the control socket is a file in it, and such names are short",
			folder, n-maxSocketPath)
	}
}

func domainAdvice(name string) string {
	if rest, ok := strings.CutPrefix(name, "*"); ok && len(rest) > 1 && rest[0] == '.' {
		return fmt.Sprintf("; for everything below it write %q", rest)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) {
		return "; write internationalised ones as A-labels (xn--…)"
	}
	return ""
}

func (d *document) checkListen(all []proxy.Listen) {
	if len(all) == 0 {
		d.problem(d.place("listen"), "listen: no address at all; leave the key out for \":25\"")
	}
	first := map[string]int{}
	for i := range all {
		path := fmt.Sprintf("listen[%d]", i)
		d.validate(path, &all[i])
		if k, twice := first[all[i].Address]; twice && all[i].Address != "" {
			d.problem(d.place(join(path, "address")), "%s.address: %s is that of listen[%d] already", path, all[i].Address, k)
			continue
		}
		first[all[i].Address] = i
	}
}

// checkCalled looks at the entries under which MTAs call; no two can have one address.
func (d *document) checkCalled(c *Config) {
	first := map[string]string{}
	check := func(path string, entry any, l called.Listen) {
		d.validate(path, entry)
		if other, twice := first[l.Address]; twice && l.Address != "" {
			d.problem(d.place(join(path, "address")), "%s.address: %s is that of %s already", path, l.Address, other)
			return
		}
		first[l.Address] = path
		d.warnOfEverybody(join(path, "peers"), l.Peers, "may say what client it has")
	}
	for i := range c.Milter {
		check(fmt.Sprintf("milter[%d]", i), &c.Milter[i], c.Milter[i].Common())
	}
	for i := range c.PolicyServer {
		check(fmt.Sprintf("policy_server[%d]", i), &c.PolicyServer[i], c.PolicyServer[i].Common())
	}
}

// warnOfEverybody: a network of length 0 is hardly meant where a list gives power to who is on it.
func (d *document) warnOfEverybody(path string, networks []netip.Prefix, power string) {
	for i, n := range networks {
		if n.Bits() == 0 {
			at := fmt.Sprintf("%s[%d]", path, i)
			d.add(rules.Problem{Pos: d.place(at), Warning: true, Message: fmt.Sprintf("%s: %s is everybody, and so everybody %s", at, n, power)})
		}
	}
}

// validDomain accepts host names, with underscores too.
func validDomain(name string) bool {
	if len(name) == 0 || len(name) > 253 {
		return false
	}
	label := 0
	for i := range len(name) {
		switch c := name[i]; {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
			continue
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
		if label++; label > 63 {
			return false
		}
	}
	return label > 0
}
