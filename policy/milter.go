package policy

import (
	"slices"

	"gatepost/filters"
	"gatepost/rules"
)

// sizeFact is the one fact beside those of filters that needs the whole message.
const sizeFact = "message.size"

// ReadsBodies tells whether anything reads more of a message than its header. A front end that is offered the choice
// need not ask for bodies then, and calls [Gate.LeaveBody] for every message.
func (e *Engine) ReadsBodies() bool {
	return len(e.byStage[filters.AtMessage]) > 0 || slices.ContainsFunc(e.rules, func(r plannedRule) bool { return r.readsSize() })
}

func (r *plannedRule) readsSize() bool {
	return slices.Contains(r.Fields, sizeFact) || slices.Contains(r.ReplyGroups, messageGroup)
}

// LeaveBody tells, behind Message, whether nothing reads more of this message than its header. If so, the front end
// completes the message with its header alone.
func (g *Gate) LeaveBody() bool {
	g.tx.bodyLeft = !g.readsBody()
	return g.tx.bodyLeft
}

func (g *Gate) readsBody() bool {
	if g.discards() {
		return false
	}
	for _, o := range g.engine.byStage[filters.AtMessage] {
		if g.slot(o.slot).status != idle || !g.tx.looking && g.needs(o) {
			return true
		}
	}
	closed := g.closed()
	return slices.ContainsFunc(g.engine.rules, func(r plannedRule) bool {
		return r.place <= closed && r.readsSize() && !g.passesOver(&r)
	})
}

// ReadsPause tells whether a rule reads how the pause before the greeting went.
func (e *Engine) ReadsPause(r *rules.Rule) bool {
	return e.pauser != nil && slices.Contains(r.Groups, e.pauserGroup)
}
