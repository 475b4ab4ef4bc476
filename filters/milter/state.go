package milter

import "sync/atomic"

// counts is how messages got their connections.
type counts struct{ opened, kept, handedOn atomic.Uint64 }

// State is how a milter and its connections stand.
type State struct {
	Name string
	// Paused tells that it is not asked, after failures in a row; Pauses is how often that has begun.
	Paused bool
	Pauses uint64
	// InUse are connections on which a message is; Idle are kept for further ones.
	InUse, Idle int
	// Messages over a new connection, over the one of the client's that was kept, and over one that another client had.
	Opened, Kept, HandedOn uint64
}

// State is safe for concurrent use.
func (f *Filter) State() State {
	s := State{Name: f.config.Name, InUse: len(f.pool.places), Idle: f.pool.idling(),
		Opened: f.counts.opened.Load(), Kept: f.counts.kept.Load(), HandedOn: f.counts.handedOn.Load()}
	s.Paused, s.Pauses = f.breaker.state()
	return s
}
