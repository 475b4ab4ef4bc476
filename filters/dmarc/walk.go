package dmarc

import (
	"context"
	"errors"

	"gatepost/filters"
)

// maxWalk is how many labels a name has in a walk at most, but for the one it starts with: a walk asks for eight names
// at most (RFC 9989, 4.10).
const maxWalk = 7

// tree finds policy records for one message. Each name is asked for once.
type tree struct {
	ctx      context.Context
	resolver filters.Resolver
	listed   bool // organizational domains are those of the public suffix list
	asked    []place
	space    [5]place // for what is usually asked
}

// place is a domain and what was found there.
type place struct {
	domain string
	found  bool
	text   string // of the record
	record record
	err    error
}

// at looks for the record of a domain. Several records are none (RFC 9989, 4.10).
func (t *tree) at(domain string) place {
	for i := range t.asked {
		if t.asked[i].domain == domain {
			return t.asked[i]
		}
	}
	p := place{domain: domain}
	texts, err := t.resolver.LookupTXT(t.ctx, "_dmarc."+domain)
	if err != nil && !errors.Is(err, filters.ErrNXDomain) {
		p.err = err
	} else if err == nil {
		policy := ""
		for _, text := range texts {
			if isRecord(text) {
				p.found = policy == ""
				if !p.found {
					break
				}
				policy = text
			}
		}
		if p.found {
			p.text, p.record = policy, parseRecord(policy)
		}
	}
	t.asked = append(t.asked, p)
	return p
}

// walk looks for records from a domain up to the root, and ends at one that tells where the organization is. On an error
// the records further up are missing.
func (t *tree) walk(domain string) (found []place, err error) {
	for name := domain; ; {
		p := t.at(name)
		if p.err != nil {
			return found, p.err
		}
		if p.found {
			found = append(found, p)
			if p.record.psd != psdUnknown {
				return found, nil
			}
		}
		labels := countLabels(name)
		if labels == 1 {
			return found, nil
		}
		name = lastLabels(name, min(labels-1, maxWalk))
	}
}

// organization selects the organizational domain from what the walk from start found (RFC 9989, 4.10.2).
func organization(start string, found []place) string {
	for _, p := range found {
		switch {
		case p.record.psd == psdNo:
			return p.domain
		case p.record.psd == psdYes && p.domain != start:
			return lastLabels(start, countLabels(p.domain)+1)
		}
	}
	if len(found) == 0 {
		return start
	}
	return found[len(found)-1].domain
}

// organizationOf is the organizational domain of any domain.
func (t *tree) organizationOf(domain string) (string, error) {
	if t.listed {
		if o, ok := listedOrganization(domain); ok {
			return o, nil
		}
		return domain, nil // a public suffix
	}
	found, err := t.walk(domain)
	if err != nil {
		return "", err
	}
	return organization(domain, found), nil
}

// discovery is what the DNS says about an author's domain.
type discovery struct {
	policy       place  // the record that applies
	organization string // empty if there is a record, but the DNS failed further up
}

// discover finds the policy record of an author's domain: its own, that of its organizational domain, or that of the
// public suffix above it (RFC 9989, 4.10.1). An error means that it is not known whether there is one.
func (t *tree) discover(author string) (d discovery, err error) {
	own := t.at(author)
	if own.err != nil {
		return d, own.err
	}
	if t.listed {
		d.organization, _ = t.organizationOf(author)
		if d.policy = own; !own.found {
			d.policy = t.at(d.organization)
		}
		return d, d.policy.err
	}
	found, err := t.walk(author)
	if own.found {
		if d.policy = own; err == nil {
			d.organization = organization(author, found)
		}
		return d, nil
	}
	if err != nil || len(found) == 0 {
		return d, err
	}
	d.organization = organization(author, found)
	d.policy = found[len(found)-1] // that of the public suffix, if the organization has none
	for _, p := range found {
		if p.domain == d.organization {
			d.policy = p
		}
	}
	return d, nil
}

// exists tells whether a name is in the DNS at all (RFC 8020).
func (t *tree) exists(domain string) (bool, error) {
	_, err := t.resolver.LookupA(t.ctx, domain)
	if errors.Is(err, filters.ErrNXDomain) {
		return false, nil
	}
	return true, err
}

// alignment compares authenticated domains with the author's.
type alignment struct {
	tree         *tree
	author       string
	organization string // of the author; empty if the DNS did not tell
	record       record
}

var errNoOrganization = errors.New("the organizational domain is not known")

// aligned tells whether a domain is the author's (strict) or has the same organizational domain (relaxed). An error
// means that it may have, but the DNS does not tell now.
func (a *alignment) aligned(domain string, strict bool) (bool, error) {
	if domain == a.author {
		return true, nil
	}
	if strict {
		return false, nil
	}
	if a.organization == "" {
		// Organizational domains are at most as long as the domain, and at least one label: only who shares that may
		// be aligned. It keeps strangers from making a failure undecided.
		if lastLabels(domain, 1) != lastLabels(a.author, 1) {
			return false, nil
		}
		return false, errNoOrganization
	}
	if !filters.IsWithin(domain, a.organization) {
		return false, nil
	}
	organization, err := a.tree.organizationOf(domain)
	return err == nil && organization == a.organization, err
}
