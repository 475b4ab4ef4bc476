package known

import (
	"strings"

	"gatepost/filters"
)

// space is where the store keeps what is known. Its keys, whose homes are the domains:
//
//	d:example.org         a domain, proved by SPF, of which mail was accepted
//	s:alice@example.org   a sender of it, whose local part is folded (see [filters.FoldSender])
//	c:bob@example.net     an address that a user has written to, in lower case
const space = "known"

const (
	domainPrefix        = "d:"
	senderPrefix        = "s:"
	correspondentPrefix = "c:"
)

// sender is a proved reverse-path; the zero sender is one of which nothing can be known.
type sender struct {
	local  string // as it was given
	folded string
	domain string // with A-labels and in lower case
}

// identify returns the sender if SPF proves it. A record that lets half the world send proves nothing; neither does one of
// which that is not known. A bounce has no sender.
func identify(v filters.View) sender {
	if v.Envelope.ReversePath == "" || v.Session.Submission {
		return sender{}
	}
	if result, _ := v.Facts.Text("spf.result"); result != "pass" {
		return sender{}
	}
	if wide, known := v.Facts.Bool("spf.wide"); wide || !known {
		return sender{}
	}
	local, domain := filters.SplitAddress(v.Envelope.ReversePath)
	domain = asciiDomain(domain)
	// What SPF has checked is what is looked up, and nothing that is only like it.
	if proved, _ := v.Facts.Text("spf.domain"); asciiDomain(proved) != domain {
		return sender{}
	}
	folded, _ := filters.SplitAddress(filters.FoldSender(v.Envelope.ReversePath))
	return sender{local, folded, domain}
}

func (s *sender) domainKey() string { return domainPrefix + s.domain }

func (s *sender) senderKey() string { return senderPrefix + s.folded + "@" + s.domain }

// correspondentKey takes a domain as asciiDomain gives it. Nearly everywhere letter case does not count in local parts.
func correspondentKey(local, domain string) string {
	return correspondentPrefix + strings.ToLower(local) + "@" + domain
}

// asciiDomain is a domain with A-labels, in lower case and without final dot; empty for what is none. A dot in front, of a
// pattern, stays.
func asciiDomain(domain string) string {
	name, isPattern := strings.CutPrefix(strings.TrimSuffix(domain, "."), ".")
	ascii, ok := filters.ASCIIName(name)
	switch {
	case !ok:
		return ""
	case isPattern:
		return "." + ascii
	}
	return ascii
}
