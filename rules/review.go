package rules

import "strings"

// review warns of what is allowed but hardly meant. rules are in the order of the file.
func (c *ruleCompiler) review(rules []*Rule, set *Set) {
	twins := make(map[string]*Rule)
	ending := make([]int, len(c.schema.stages))
	for i := range ending {
		ending[i] = len(rules)
	}
	for i, r := range rules {
		c.warnOfOrder(rules, i, ending)
		c.warnOfTwin(r, twins)
		c.warnOfConstant(r, set)
		c.warnOfSplit(r, set)
		c.warnOfResponsibility(r)
	}
}

func (r *Rule) ends() bool { return r.Action.Terminal() && r.Mode == Enforce }

// warnOfOrder: a reader expects that a rule above, if it matches, leaves nothing for those below. ending has the place of
// the first ending rule of each stage so far: a look at all rules above took a sixth of the time that 10,000 of them take
// to load.
func (c *ruleCompiler) warnOfOrder(rules []*Rule, place int, ending []int) {
	r := rules[place]
	first := place
	for _, other := range ending[r.Stage+1:] {
		first = min(first, other)
	}
	if first < place {
		other := rules[first]
		c.warn(r.Pos, "%s acts at %s, before %s at line %d above it, which acts at %s: a later line acts earlier",
			r.Name, c.schema.stages[r.Stage], other.Name, other.Pos.Line, c.schema.stages[other.Stage])
	}
	if r.ends() {
		ending[r.Stage] = min(ending[r.Stage], place)
	}
}

// warnOfTwin finds a condition that was written twice, where the first leaves nothing for the second. twins has the
// first ending rule of each condition.
func (c *ruleCompiler) warnOfTwin(r *Rule, twins map[string]*Rule) {
	condition := strings.Join(strings.Fields(r.When), " ")
	other := twins[condition]
	switch {
	case other == nil && r.ends():
		twins[condition] = r
	case other != nil && r.Action.Terminal() && other.Stage <= r.Stage:
		c.warn(r.Pos, "%s has the same condition as %s at line %d, and can never act", r.Name, other.Name, other.Pos.Line)
	}
}

func (c *ruleCompiler) warnOfConstant(r *Rule, set *Set) {
	switch fixed, _ := r.condition.(constant); {
	case fixed == constant(False):
		c.warn(r.Pos, "%s can never match: its condition is always false", r.Name)
	case fixed == constant(True) && r.ends() && set.rules[len(set.rules)-1] != r:
		c.warn(r.Pos, "%s always matches: no rule that is evaluated after it can act", r.Name)
	}
}

// warnOfSplit names rules that can give two recipients of one message different answers when only one can be given.
func (c *ruleCompiler) warnOfSplit(r *Rule, set *Set) {
	if r.Mode != Enforce || !r.readsRecipient(c.schema) {
		return
	}
	last := c.schema.recipient
	if r.Stage > last && (r.ends() || r.Action == Tag) {
		c.warn(r.Pos, "%s can split recipients: it acts at %s, when one answer is for all, and depends on the recipient",
			r.Name, c.schema.stages[r.Stage])
		return
	}
	if r.Action != Accept {
		return
	}
	for _, other := range set.rules {
		if (other.ends() && other.Action != Accept || other.Action == Tag && other.Mode == Enforce) && other.Stage > last && other.Stage > r.Stage {
			c.warn(r.Pos, "%s can split recipients: it exempts some from %s at line %d, which acts at %s, when one answer is for all",
				r.Name, other.Name, other.Pos.Line, c.schema.stages[other.Stage])
			return
		}
	}
}

// warnOfResponsibility: what is answered 250 is ours to deliver (RFC 5321, 6.1), and here nobody delivers it by himself.
func (c *ruleCompiler) warnOfResponsibility(r *Rule) {
	if r.Action == Quarantine && r.Mode == Enforce {
		c.warn(r.Pos, "%s answers 250 and keeps the message: sender and recipient are not told, and nobody gets it before `gatepost quarantine release`; with then: reject and keep: copy the sender knows",
			r.Name)
	}
}
