package dmarc

import (
	"gatepost/filters"
)

// identifiers are the domains that SPF and DKIM speak of.
type identifiers struct {
	spf, dkim []string // authenticated
	// Neither authenticated nor not, as the DNS failed: a later try may authenticate them.
	spfUndecided, dkimUndecided []string
	// known is false where SPF or DKIM has no result at all (switched off, failed).
	known bool
}

// readIdentifiers collects what the filters before us have found.
func readIdentifiers(facts filters.Facts) (ids identifiers) {
	result, spfKnown := facts.Text("spf.result")
	switch result {
	case "pass":
		if domain, _ := facts.Text("spf.authenticated"); domain != "" {
			ids.spf = []string{domain}
		}
	case "temperror":
		if domain, _ := facts.Text("spf.domain"); domain != "" {
			ids.spfUndecided = []string{domain}
		}
	}
	_, dkimKnown := facts.Text("dkim.result")
	ids.dkim, _ = facts.List("dkim.domains")
	ids.dkimUndecided, _ = facts.List("dkim.undecided")
	ids.known = spfKnown && dkimKnown
	return ids
}

// Result is the outcome (RFC 9989; RFC 8601, 2.7).
type Result string

// The results.
const (
	None      Result = "none"
	Pass      Result = "pass"
	Fail      Result = "fail"
	TempError Result = "temperror"
	PermError Result = "permerror"
)

const errorDNS = "the DNS gives no usable answer now"

// lookUp finds what an author's domain has published.
func lookUp(t *tree, author string) *RecordFacts {
	f := &RecordFacts{Domain: author, Policy: policyNone.String()}
	d, err := t.discover(author)
	if err != nil {
		f.RecordProblem = errorDNS
		return f
	}
	f.Organizational = d.organization
	if !d.policy.found || d.policy.record.unusable {
		return f
	}
	f.RecordDomain, f.Record, f.Testing = d.policy.domain, printable(d.policy.text), d.policy.record.testing
	policy, err := t.policyFor(author, d.policy)
	if f.Policy = policy.String(); err != nil {
		f.RecordProblem = errorDNS
	}
	return f
}

// published is what lookUp found, as the second look gets it.
type published struct {
	domain, recordDomain, record, organization, policy, problem string
}

func readPublished(facts filters.Facts) (p published, ok bool) {
	p.domain, ok = facts.Text("dmarc.domain")
	p.recordDomain, _ = facts.Text("dmarc.record_domain")
	p.record, _ = facts.Text("dmarc.record")
	p.organization, _ = facts.Text("dmarc.organizational")
	p.policy, _ = facts.Text("dmarc.policy")
	p.problem, _ = facts.Text("dmarc.record_problem")
	return p, ok
}

// check judges a message. ok is false where the result hangs on SPF or DKIM and one of them has none.
func check(t *tree, p published, ids identifiers) (f *Facts, ok bool) {
	f = &Facts{Result: string(None), domain: p.domain, recordDomain: p.recordDomain, policy: p.policy}
	switch {
	case p.domain == "":
		f.Result, f.Problem = string(PermError), p.problem
		return f, true
	case p.recordDomain == "" && p.problem != "":
		f.Result, f.Problem = string(TempError), p.problem
		return f, true
	case p.recordDomain == "":
		return f, true
	}
	own := place{domain: p.recordDomain, found: true, record: parseRecord(p.record)}
	t.asked = append(t.asked, own)
	a := alignment{tree: t, author: p.domain, organization: p.organization, record: own.record}
	var result Result
	result, f.Aligned = a.evaluate(ids)
	if result != Pass && !ids.known {
		return nil, false
	}
	if result == Fail && p.problem != "" {
		result = TempError // what the owner wants is not known
	}
	if f.Result = string(result); result == TempError {
		f.Problem = errorDNS
	}
	return f, true
}

// evaluate passes a message if one identifier is aligned. What could still become one leaves it open: but only that, so
// that a stranger's broken DNS does not save a forged message from failing.
func (a *alignment) evaluate(ids identifiers) (result Result, aligned string) {
	r := &a.record
	bySPF, openSPF := a.any(ids.spf, r.strictSPF)
	byDKIM, openDKIM := a.any(ids.dkim, r.strictDKIM)
	switch {
	case bySPF && byDKIM:
		return Pass, "spf+dkim"
	case bySPF:
		return Pass, "spf"
	case byDKIM:
		return Pass, "dkim"
	case openSPF || openDKIM:
		return TempError, ""
	}
	bySPF, openSPF = a.any(ids.spfUndecided, r.strictSPF)
	byDKIM, openDKIM = a.any(ids.dkimUndecided, r.strictDKIM)
	if bySPF || byDKIM || openSPF || openDKIM {
		return TempError, ""
	}
	return Fail, ""
}

// any tells whether one of the domains is aligned, or else whether that is open.
func (a *alignment) any(domains []string, strict bool) (aligned, open bool) {
	for _, domain := range domains {
		ok, err := a.aligned(domain, strict)
		if ok {
			return true, false
		}
		open = open || err != nil
	}
	return false, open
}

// policyFor takes the policy from the record (RFC 9989, 4.7 and 4.10.1). A test makes it one step softer. On an error it
// is not known whether the author's domain exists; the policy is that for domains that do.
func (t *tree) policyFor(author string, p place) (policy policy, err error) {
	switch r := &p.record; {
	case p.domain == author:
		policy = r.policy
	case r.absent == r.subdomains:
		policy = r.subdomains
	default:
		var exists bool
		if exists, err = t.exists(author); exists || err != nil {
			policy = r.subdomains
		} else {
			policy = r.absent
		}
	}
	if p.record.testing && policy > policyNone {
		policy--
	}
	return policy, err
}
