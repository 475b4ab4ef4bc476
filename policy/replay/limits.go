package replay

import (
	"gatepost/filters"
	"gatepost/policy"
)

// limiting is the rate limits, where they are other than when it was recorded.
type limiting struct {
	witness  filters.Witness // nil: off
	settings uint64
	live     bool // for the recording at hand
	// A connection counts once, however many transactions it brings.
	connections map[string]looked
}

type looked struct {
	facts any
	err   error
}

// maxConnections bounds the sessions whose end has not come yet.
const maxConnections = 100_000

func (l *limiting) begin(r *policy.Recording) { l.live = r.Settings.RateLimit != l.settings }

func (l *limiting) look(stage filters.Stage, session string, look func() (any, error)) (facts any, err error) {
	if stage != filters.AtConnect {
		return look()
	}
	if found, ok := l.connections[session]; ok {
		return found.facts, found.err
	}
	facts, err = look()
	if len(l.connections) < maxConnections {
		l.connections[session] = looked{facts, err}
	}
	return facts, err
}

// end forgets a session.
func (l *limiting) end(r *policy.Recording) {
	if r.Envelope == nil {
		delete(l.connections, r.Session.ID)
	}
}
