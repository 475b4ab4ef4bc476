package policy

import (
	"slices"

	"gatepost/filters"
	"gatepost/rules"
)

// inboundFilters judge mail servers and the domains that they speak for. Where users hand in their mail (RFC 6409), from
// home and from everywhere, they say nothing: there these filters do not run, and rules that read their facts, or that
// greylist, do not act.
var inboundFilters = []string{"dnsbl", "spf", "greylist", "known", "dmarc"}

// isInbound tells whether a rule is for mail servers only.
func (k *compiler) isInbound(r *rules.Rule) bool {
	return r.Action == rules.Greylist || slices.ContainsFunc(r.Groups, func(group int) bool {
		return slices.Contains(inboundFilters, k.groups[group].Name)
	})
}

// failInbound makes the facts of the inbound filters absent for good.
func (e *Engine) failInbound(f *rules.Facts) {
	for _, o := range e.observations {
		if o.inbound {
			f.Fail(o.group)
		}
	}
}

// passesOver tells whether a rule has no say in this session.
func (g *Gate) passesOver(r *plannedRule) bool { return r.inbound && g.session.Submission }

// leavesOut tells whether an observation is not made in this session.
func (o *observation) leavesOut(s *filters.Session) bool { return o.inbound && s.Submission }
