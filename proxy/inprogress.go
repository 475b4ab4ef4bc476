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

// shown is what can be seen from outside of a session that runs. It is a part of the session's buffers: a session that
// waits has none, and is looked at under the parker's lock, for then nobody writes it. The session's goroutine writes
// and whoever asks reads, without a lock: so all of it is atomic.
type shown struct {
	info     atomic.Pointer[filters.Session]
	greeting atomic.Pointer[filters.Greeting]
	waits    atomic.Pointer[string] // the filter that is being waited for; nil: none
	stage    atomic.Uint32
	since    atomic.Int64 // of the stage, a moment
	bytes    atomic.Int64 // of the message
}

// show makes the session's state visible while it runs.
func (s *session) show() {
	v := &s.b.shown
	v.info.Store(nil)
	if s.phase != phaseAccepted { // then it is not complete
		v.info.Store(s.info)
	}
	v.greeting.Store(s.greeting)
	v.stage.Store(uint32(s.restingStage()))
	v.since.Store(int64(s.since))
	v.bytes.Store(s.messageSize())
	s.shown.Store(v)
}

// reach shows where the session stands, from its latest command on. What has ended, and does not run any more, shows nothing.
func (s *session) reach(stage Stage) {
	if s.b == nil {
		return
	}
	if v := &s.b.shown; v.stage.Load() != uint32(stage) {
		v.stage.Store(uint32(stage))
		v.since.Store(int64(momentOf(s.b.began)))
	}
}

// restingStage is where a session stands between commands.
func (s *session) restingStage() Stage {
	switch {
	case s.phase == phasePause:
		return StageGreeting
	case s.phase != phaseCommands:
		return StageConnect
	case s.tx == nil:
		return StageCommands
	case s.tx.incoming.message != nil:
		return StageData
	case s.tx.tried > 0:
		return StageRcpt
	}
	return StageMail
}

func (s *session) messageSize() int64 {
	if s.tx == nil {
		return 0
	}
	return s.tx.incoming.size
}

// InProgress is a session as it is at a moment.
type InProgress struct {
	Session  *filters.Session
	Greeting *filters.Greeting // nil: none yet
	Stage    Stage
	Since    time.Duration // for how long it has been there
	Bytes    int64         // of the message that is arriving
	Waits    string        // the filter that is being waited for; empty: none
}

// InProgress returns the sessions that began first, at most limit, the oldest first. One that is about to begin or to go
// on may be left out. It takes the locks that sessions take when they begin, wait and end, each for a moment.
func (s *Server) InProgress(limit int) []InProgress {
	list := make([]InProgress, 0, max(limit, 0)+1)
	s.eachSession(func(e *session) {
		p := e.inProgress()
		if p.Session == nil || p.Session.ID == "" { // it begins just now, or is the proxy's own probe
			return
		}
		place, _ := slices.BinarySearchFunc(list, p, func(a, b InProgress) int { return a.Session.Accepted.Compare(b.Session.Accepted) })
		if place < limit {
			list = slices.Insert(list, place, p)
			list = list[:min(len(list), limit)]
		}
	})
	// A session that began to run while it was looked at may have been taken for another one, whose buffers it has now.
	return slices.CompactFunc(list, func(a, b InProgress) bool { return a.Session.ID == b.Session.ID })
}

// inProgress looks at a session from outside.
func (s *session) inProgress() (p InProgress) {
	at := now()
	if v := s.shown.Load(); v != nil {
		p = InProgress{Session: v.info.Load(), Greeting: v.greeting.Load(), Stage: Stage(v.stage.Load()), Bytes: v.bytes.Load(),
			Since: max(0, time.Duration(at)-time.Duration(v.since.Load()))}
		if w := v.waits.Load(); w != nil {
			p.Waits = *w
		}
		return p
	}
	s.server.lot.look(s, func() {
		p = InProgress{Session: s.info, Greeting: s.greeting, Stage: s.restingStage(), Bytes: s.messageSize(), Since: max(0, time.Duration(at-s.since))}
	})
	return p
}
