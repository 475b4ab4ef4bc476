package recommend

import (
	"slices"

	"gatepost/policy"
	"gatepost/policy/replay"
)

// zones follows what block lists and allow lists say.
type zones struct {
	found map[string]*Zone
	order []string
}

// Zone is what is found about a list.
type Zone struct {
	Name      string `json:"list"`
	Answered  int    `json:"answered"` // transactions, and sessions without one, of which it could be asked
	Failed    int    `json:"failed"`   // it did not answer
	Listed    int    `json:"listed"`
	Alone     int    `json:"alone"`             // listed by no other
	Delivered int    `json:"delivered"`         // mail that the mail server took
	Among     int    `json:"listed_delivered"`  // listed among these
	Credit    bool   `json:"credit,omitempty"`  // it gives credit
	Verdict   string `json:"verdict,omitempty"` // "never", "much", "failing", or nothing to say
}

func newZones(names []string) *zones {
	z := &zones{found: map[string]*Zone{}, order: names}
	for _, name := range names {
		z.found[name] = &Zone{Name: name}
	}
	return z
}

var listFacts = []string{"dnsbl.listed", "dnsbl.ptr_listed", "dnsbl.helo_listed", "dnsbl.sender_listed"}

func (z *zones) add(r *policy.Recording) {
	if len(z.order) == 0 {
		return
	}
	if !slices.ContainsFunc(r.Looks, func(l policy.Look) bool { return l.Filter == "dnsbl" && l.Status == policy.LookOK }) {
		return
	}
	facts := replay.FactsOf(r.Looks)
	failed, _ := facts.List("dnsbl.failed")
	credit, _ := facts.List("dnsbl.allowed")
	var listed []string
	for _, fact := range listFacts {
		names, _ := facts.List(fact)
		listed = append(listed, names...)
	}
	taken := delivered(r)
	for _, zone := range z.found {
		if slices.Contains(failed, zone.Name) {
			zone.Failed++
			continue
		}
		zone.Answered++
		if taken {
			zone.Delivered++
		}
		gives := slices.Contains(credit, zone.Name)
		if !gives && !slices.Contains(listed, zone.Name) {
			continue
		}
		zone.Credit = zone.Credit || gives
		zone.Listed++
		if taken {
			zone.Among++
		}
		if len(listed) == 1 && !gives {
			zone.Alone++
		}
	}
}

// What a list is judged by. A block list that lists a twentieth of the mail that was taken all the same, or nearly
// everybody, is not what it is meant to be.
const (
	fewAnswers     = 200
	muchOfTaken    = 0.05
	nearlyAll      = 0.9
	failsTooOften  = 0.2
	verdictNever   = "never"
	verdictMuch    = "much"
	verdictFailing = "failing"
)

// Zones returns what is found about each list.
func (s *Survey) Zones() []Zone {
	var list []Zone
	for _, name := range s.zones.order {
		z := *s.zones.found[name]
		all := z.Answered + z.Failed
		switch {
		case all < fewAnswers:
		case float64(z.Failed) >= failsTooOften*float64(all):
			z.Verdict = verdictFailing
		case z.Listed == 0:
			z.Verdict = verdictNever
		case z.Credit:
		case float64(z.Listed) >= nearlyAll*float64(z.Answered),
			z.Delivered >= fewAnswers && float64(z.Among) >= muchOfTaken*float64(z.Delivered):
			z.Verdict = verdictMuch
		}
		list = append(list, z)
	}
	return list
}
