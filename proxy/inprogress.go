package proxy

import (
	"slices"
	"sync/atomic"
	"time"

	"gatepost/filters"
)

// Stage is where a session stands, as operators see it.
type Stage uint8

// The stages.
const (
	StageConnect Stage = iota // the client's address is not known yet, or TLS is being set up
	StageGreeting
	StageCommands // between commands, outside of a transaction
	StageHelo
	StageMail
	StageRcpt
	StageData    // the message arrives
	StageJudging // the message is complete, and looked at
	StageBackend // the backend has the message, or is asked
)

var stageNames = [...]string{StageConnect: "connect", StageGreeting: "greeting", StageCommands: "commands", StageHelo: "helo", StageMail: "mail",
	StageRcpt: "rcpt", StageData: "data", StageJudging: "judging", StageBackend: "backend"}

// String is the name of a stage.
func (s Stage) String() string { return stageNames[s] }

// shown is what can be seen of a session from outside, and its place among the others. The session's goroutine writes it
// and whoever asks reads it, without a lock: so all that changes is atomic.
type shown struct {
	session    *session
	next, prev *shown // guarded by Server.mu

	info     atomic.Pointer[filters.Session]
	greeting atomic.Pointer[filters.Greeting]
	waits    atomic.Pointer[string] // the filter that is being waited for; nil: none
	stage    atomic.Uint32
	since    atomic.Uint32 // of the stage, in tenths of a second since the process began: 13 years of them
	bytes    atomic.Int64  // that came from the client
}

// reset makes it that of another session.
func (v *shown) reset() {
	v.info.Store(nil)
	v.greeting.Store(nil)
	v.waits.Store(nil)
	v.stage.Store(uint32(StageConnect))
	v.since.Store(0)
	v.bytes.Store(0)
}

// shownTick is how finely stages are timed.
const shownTick = 100 * time.Millisecond

// reach shows where the session stands from the time of its latest command on. What a session that does not run any more
// leaves behind is no stage.
func (s *session) reach(stage Stage) {
	v := s.shown
	if s.b == nil || v.stage.Load() == uint32(stage) {
		return
	}
	v.stage.Store(uint32(stage))
	v.since.Store(uint32(time.Duration(momentOf(s.b.began)) / shownTick))
}

// InProgress is a session as it is at a moment.
type InProgress struct {
	Session  *filters.Session
	Greeting *filters.Greeting // nil: none yet
	Stage    Stage
	Since    time.Duration // for how long it has been at that stage, to a tenth of a second
	Bytes    int64         // that came from the client
	Waits    string        // the filter that is being waited for; empty: none
}

// InProgress returns the sessions that began first, at most limit, the oldest first. It takes the lock that sessions take
// when they begin and end, and none that they take in between.
func (s *Server) InProgress(limit int) []InProgress {
	limit = max(limit, 0)
	var list []InProgress
	s.mu.Lock()
	// New ones are put at the head: the list is from the newest to the oldest.
	ring := make([]*shown, 0, limit)
	n := 0
	for v := s.sessions; v != nil && limit > 0; v = v.next {
		if v.info.Load() == nil {
			continue
		}
		if len(ring) < limit {
			ring = append(ring, v)
		} else {
			ring[n%limit] = v
		}
		n++
	}
	at := time.Duration(now())
	for _, v := range ring {
		p := InProgress{Session: v.info.Load(), Greeting: v.greeting.Load(), Stage: Stage(v.stage.Load()), Bytes: v.bytes.Load()}
		p.Since = max(0, at-time.Duration(v.since.Load())*shownTick)
		if w := v.waits.Load(); w != nil {
			p.Waits = *w
		}
		list = append(list, p)
	}
	s.mu.Unlock()
	slices.SortStableFunc(list, func(a, b InProgress) int { return a.Session.Accepted.Compare(b.Session.Accepted) })
	return list
}
