package policy

import (
	"math"
	"slices"

	"gatepost/filters"
	"gatepost/rules"
)

// planRules finds out what the gate has to know of each rule.
func (k *compiler) planRules() {
	e := k.engine
	for i, r := range e.set.Rules() {
		p := plannedRule{Rule: r, place: i, scope: k.reads(r), inbound: k.isInbound(r), personal: personalFact(r)}
		e.splits = e.splits || p.scope == recipientLevel && r.Stage > int(filters.AtRcpt) && r.Mode == rules.Enforce
		e.rules = append(e.rules, p)
	}
	for stage := range e.first {
		e.first[stage], _ = slices.BinarySearchFunc(e.rules, stage, func(p plannedRule, stage int) int { return p.Stage - stage })
	}
}

// planWaits finds the observations that each rule may have to wait for. A rule that reads the score does not wait for
// what the rules before it read: they have added their points or never will.
func (k *compiler) planWaits() {
	e := k.engine
	for i := range e.rules {
		r := &e.rules[i]
		for _, name := range r.Fields {
			fact, ok := e.schema.Fact(name)
			if !ok { // header("Subject"): known with the message
				continue
			}
			if slot := e.slotOf[fact.Group]; slot >= 0 && !slices.Contains(r.waits, slot) {
				r.waits = append(r.waits, slot)
			}
		}
		for _, group := range r.Groups {
			if slot := e.slotOf[group]; slot >= 0 {
				r.deferring = append(r.deferring, slot)
			}
		}
		if !slices.ContainsFunc(r.deferring, func(slot int) bool { return r.defersFor(e.observations[slot]) }) {
			r.deferring = nil
		}
		for _, group := range r.ReplyGroups {
			if slot := e.slotOf[group]; slot >= 0 {
				r.shows = append(r.shows, slot)
			}
		}
	}
}

// reads returns for how long what a rule reads stays true: "accept ends evaluation for the recipient if the rule reads
// rcpt, for the session if it reads connection facts only, else for the transaction".
func (k *compiler) reads(r *rules.Rule) level {
	scope := connectionLevel
	for _, group := range r.Groups {
		switch filters.Stage(k.groups[group].Stage) {
		case filters.AtConnect:
		case filters.AtRcpt:
			return recipientLevel
		default:
			scope = transactionLevel
		}
	}
	return scope
}

// planObservations picks the observations that run and puts them in order.
func (k *compiler) planObservations() {
	e := k.engine
	sorted := k.order()
	if k.failed {
		return
	}
	readers := k.readers()
	e.slotOf = slices.Repeat([]int{-1}, len(k.groups))
	for _, o := range sorted {
		if o.instance == e.pauser && e.pauser != nil {
			e.pauserGroup = o.group
		}
		o.firstReader = readers[o]
		if o.instance == nil || o.firstReader == math.MaxInt && !o.reports && !o.edits {
			continue
		}
		o.slot = len(e.observations)
		if o.edits {
			e.editors = append(e.editors, o.slot)
		}
		o.inbound = slices.Contains(inboundFilters, o.filter)
		e.slotOf[o.group] = o.slot
		if o.level <= greetingLevel { // the stages of those come first
			e.lasting++
		}
		e.observations = append(e.observations, o)
		if reader, ok := o.instance.(filters.LedgerReader); ok && o.stage == filters.AtMail {
			e.ledgerReaders = append(e.ledgerReaders, reader)
		}
		e.byStage[o.stage] = append(e.byStage[o.stage], o)
		e.reportsAuth = e.reportsAuth || o.reports
		for _, dependency := range k.dependencies(o) {
			if dependency.slot < 0 {
				continue
			}
			o.after = append(o.after, dependency.slot)
			// What waits for a goroutine needs one of its own.
			o.inline = o.inline && dependency.inline
			dependency.awaited = dependency.awaited || !dependency.inline
		}
		if !o.inline {
			e.maxRunning += 2
		}
	}
	e.blank = e.newFacts()
	e.groups = builtinGroups + len(e.observations)
	k.planWaits()
	k.planPauser()
	k.planGreylist()
}

// readers finds the first rule that needs each observation, directly or because one that it needs waits for another.
// The pauser's is missing: the gate sets its facts itself.
func (k *compiler) readers() map[*observation]int {
	readers := map[*observation]int{}
	for _, o := range k.declared {
		readers[o] = math.MaxInt
	}
	var need func(o *observation, place int)
	need = func(o *observation, place int) {
		if place >= readers[o] && place != math.MaxInt {
			return
		}
		readers[o] = min(readers[o], place)
		for _, dependency := range k.dependencies(o) {
			if place < readers[dependency] {
				need(dependency, place)
			}
		}
	}
	for i := range k.engine.rules {
		r := &k.engine.rules[i]
		for _, group := range slices.Concat(r.Groups, r.ReplyGroups) {
			if group >= builtinGroups {
				need(k.declared[group-builtinGroups], i)
			}
		}
		if r.Action != rules.Greylist || r.Mode != rules.Enforce {
			continue
		}
		// The greylister itself looks at the facts of the filters that it names.
		for _, o := range k.declared {
			if o.filter == "greylist" {
				for _, dependency := range k.dependencies(o) {
					need(dependency, i)
				}
			}
		}
	}
	k.readersOfReports(readers)
	return readers
}

// readersOfReports marks what reports to Authentication-Results wait for as reporting too: it runs when they run. So it
// is with what those wait for that may change the message.
func (k *compiler) readersOfReports(readers map[*observation]int) {
	var mark func(o *observation)
	mark = func(o *observation) {
		for _, dependency := range k.dependencies(o) {
			if !dependency.reports {
				dependency.reports = true
				mark(dependency)
			}
		}
	}
	for _, o := range k.declared {
		if (o.reports || o.edits) && o.instance != nil {
			mark(o)
		}
	}
}

// dependencies are the observations whose facts are joined before o starts: all of the named filters that exist by
// then. A recipient's are there for other observations of that recipient only.
func (k *compiler) dependencies(o *observation) []*observation {
	var list []*observation
	for _, name := range o.spec.After {
		for _, d := range k.declared {
			exists := d.stage <= o.stage && (d.stage != filters.AtRcpt || o.stage == filters.AtRcpt)
			if d.filter == name && d != o && exists {
				list = append(list, d)
			}
		}
	}
	return list
}

// order sorts the observations by stage, and within a stage behind what they wait for.
func (k *compiler) order() []*observation {
	const (
		visiting = 1
		done     = 2
	)
	state := map[*observation]int{}
	var sorted []*observation
	var visit func(o *observation)
	visit = func(o *observation) {
		switch state[o] {
		case done:
			return
		case visiting:
			k.problem("filters."+o.filter, "its observation at %v waits for itself", o.stage)
			return
		}
		state[o] = visiting
		for _, d := range k.dependencies(o) {
			visit(d)
		}
		state[o] = done
		sorted = append(sorted, o)
	}
	for _, o := range k.declared {
		visit(o)
	}
	slices.SortStableFunc(sorted, func(a, b *observation) int { return int(a.stage) - int(b.stage) })
	return sorted
}

// planPauser takes the pauser's observation out of those that are started, and finds out whether a pause is worth it: a
// rule that only observes adds no wait.
func (k *compiler) planPauser() {
	e := k.engine
	if e.pauser == nil {
		return
	}
	e.byStage[filters.AtConnect] = slices.DeleteFunc(e.byStage[filters.AtConnect], func(o *observation) bool { return o.group == e.pauserGroup })
	for _, r := range e.rules {
		if r.Mode == rules.Enforce && slices.Contains(r.Groups, e.pauserGroup) {
			e.pauses = true
		}
	}
}

// acceptsBehindGreylisting tells whether a rule at RCPT that is asked only when a greylisting has been passed, and so when
// the backend has answered, can close rules for other recipients too.
func (e *Engine) acceptsBehindGreylisting() bool {
	behind := false
	for i := e.first[filters.AtRcpt]; i < e.first[filters.AtRcpt+1]; i++ {
		r := &e.rules[i]
		if behind && r.Action == rules.Accept && r.scope != recipientLevel {
			return true
		}
		behind = behind || r.Action == rules.Greylist
	}
	return false
}

// planIndependence finds out whether recipients can be judged before the backend has answered about those before them: a
// filter that looks at each of them may count outcomes, or still be looking, a rule may read how many were accepted, a
// greylisting that is spoken without the backend goes by whether there is one, and an acceptance behind a greylisting
// closes rules for all who follow.
func (k *compiler) planIndependence() {
	e := k.engine
	counts := slices.ContainsFunc(e.rules, func(r plannedRule) bool { return slices.Contains(r.Fields, "rcpt.count") })
	e.independent = !counts && (e.askBackend || e.greylister == nil) && !e.acceptsBehindGreylisting()
	for _, o := range e.byStage[filters.AtRcpt] {
		foreseer, ok := o.instance.(filters.Foreseer)
		if ok && !o.spec.Independent {
			e.foreseers = append(e.foreseers, foreseer)
		}
		e.independent = e.independent && o.inline && (ok || o.spec.Independent)
	}
}

// planGreylist collects what the greylister looks at, and its own observations: what they find must not depend on whether
// they look before or behind the attempt.
func (k *compiler) planGreylist() {
	for _, o := range k.declared {
		if o.filter != "greylist" {
			continue
		}
		for _, d := range append(k.dependencies(o), o) {
			if d.slot >= 0 && !slices.Contains(k.engine.greyReads, d.slot) {
				k.engine.greyReads = append(k.engine.greyReads, d.slot)
			}
		}
	}
}
