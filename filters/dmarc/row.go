package dmarc

import (
	"slices"

	"gatepost/filters"
	"gatepost/filters/dmarc/report"
)

// sighting is one message as reports count it.
type sighting struct {
	domain string // the policy domain
	record string // its record
	row    report.Row
}

// maxReported bounds the signatures of a row. RFC 9990 allows a hundred; the filter dkim looks at five.
const maxReported = 10

// sight tells what a message that came out like this adds to a report; ok is false where it adds nothing: it has not
// come to an end (its client will be back, and it would count twice), DMARC has no result, or nobody wants to know.
func sight(o *filters.Outcome) (s sighting, ok bool) {
	if o.Kind != filters.MessageOutcome || o.Code/100 != 2 && o.Code/100 != 5 || o.View.Session.Trusted {
		return s, false
	}
	facts := o.View.Facts
	result, _ := facts.Text("dmarc.result")
	if result != string(Pass) && result != string(Fail) {
		return s, false
	}
	s.domain, _ = facts.Text("dmarc.record_domain")
	s.record, _ = facts.Text("dmarc.record")
	tags := parseTags(s.record)
	if !hasURI(tags.value("rua")) {
		return s, false
	}
	aligned, _ := facts.Text("dmarc.aligned")
	s.row = report.Row{
		SourceIP: o.View.Session.Client.IP.Unmap().WithZone("").String(),
		DKIM:     passIf(aligned == "dkim" || aligned == "spf+dkim"),
		SPF:      passIf(aligned == "spf" || aligned == "spf+dkim"),
	}
	s.row.HeaderFrom, _ = facts.Text("dmarc.domain")
	if identity, _ := facts.Text("spf.identity"); identity == "mailfrom" {
		s.row.EnvelopeFrom, _ = facts.Text("spf.domain")
	}
	if s.row.SPFDomain, _ = facts.Text("spf.domain"); s.row.SPFDomain != "" {
		s.row.SPFResult, _ = facts.Text("spf.result")
	}
	s.row.Signatures = signatures(facts, s.row.HeaderFrom)
	s.dispose(o, result)
	return s, true
}

func passIf(pass bool) string {
	if pass {
		return string(Pass)
	}
	return string(Fail)
}

// dispose says what became of the message, and why if that is not what the domain's owner wants.
func (s *sighting) dispose(o *filters.Outcome, result string) {
	policy, _ := o.View.Facts.Text("dmarc.policy")
	if result == string(Pass) {
		if s.row.Disposition = policyNone.String(); policy != policyNone.String() {
			s.row.Disposition = string(Pass)
		}
		return
	}
	switch {
	case o.Code/100 == 5:
		s.row.Disposition = policyReject.String()
	case o.Ours: // taken, but kept from the mailbox
		s.row.Disposition = policyQuarantine.String()
	default:
		s.row.Disposition = policyNone.String()
	}
	override, _ := o.View.Facts.Text("dmarc.override")
	testing, _ := o.View.Facts.Bool("dmarc.testing")
	switch r := parseRecord(s.record); {
	case override != "" && override != noOverride && s.row.Disposition == policyNone.String() && policy != policyNone.String():
		s.row.Reason = override
		s.row.Comment, _ = o.View.Facts.Text("dmarc.override_by")
	case testing && max(r.policy, r.subdomains, r.absent) > policyNone && s.row.Disposition != policyReject.String():
		s.row.Reason = "policy_test_mode"
	case s.row.Disposition != policy:
		s.row.Reason = "local_policy"
	}
}

// signatures lists the DKIM signatures, those first that say most about the author's domain (RFC 9990, "DKIM Signatures
// in Aggregate Reports").
func signatures(facts filters.Facts, author string) []report.Signature {
	results, _ := facts.List("dkim.results")
	signers, _ := facts.List("dkim.signers")
	selectors, _ := facts.List("dkim.selectors")
	var list []report.Signature
	for i := range min(len(results), len(signers), len(selectors)) {
		if signers[i] != "" && selectors[i] != "" {
			list = append(list, report.Signature{Domain: signers[i], Selector: selectors[i], Result: results[i]})
		}
	}
	rank := func(s report.Signature) int {
		switch {
		case s.Result != string(Pass):
			return 3
		case s.Domain == author:
			return 0
		case filters.IsWithin(author, s.Domain) || filters.IsWithin(s.Domain, author):
			return 1
		}
		return 2
	}
	slices.SortStableFunc(list, func(a, b report.Signature) int { return rank(a) - rank(b) })
	return list[:min(len(list), maxReported)]
}
