package policy

import (
	"context"
	"errors"
	"slices"
	"time"

	"gatepost/filters"
)

// Player runs recordings again under an engine. It is for one goroutine; an engine can have several.
type Player struct {
	engine     *Engine
	simulation Simulation
	plans      map[planKey]*valuesPlan
}

// Simulation stands for filters that remember: what they find depends on what was decided before. It is called on the
// player's goroutine, in the order of the recordings.
type Simulation interface {
	// Simulates tells whether Look is to be asked about an observation at all.
	Simulates(filter string, stage filters.Stage) bool
	// Look finds out what a filter would have found; look asks the engine's own. With ok false what was recorded stands,
	// with ErrUntold nothing is known.
	Look(filter string, stage filters.Stage, v filters.View, look func() (any, error)) (facts any, err error, ok bool)
	// Attempt does what [filters.Greylister] does. recorded is nil if no attempt was recorded, whole tells that all is known
	// that the greylister looks at. With known false it cannot be told.
	Attempt(v filters.View, recorded *Attempt, whole bool) (state filters.GreylistState, known bool)
	// Concluded is told how recipients and messages ended under this engine. With supposed true that is what would have been
	// expected of client and mail server, who did not come so far when it was recorded. Of a message that cannot be told, and
	// of one that would not have been asked about, it is told nothing.
	Concluded(o *filters.Outcome, supposed bool)
}

// ErrUntold is the answer of a [Simulation] that cannot know what a filter would have found.
var ErrUntold = errors.New("cannot be told")

// Play is what an engine makes of a session or a transaction.
type Play struct {
	// Refused is the verdict that ended it, with Step; nil where all steps passed, or at StepRcpt: then Recipients tell.
	Refused *RecordedDecision
	Step    Step
	// Recipients have a zero Action where the reply is the backend's or the front end's own.
	Recipients []RecordedDecision
	Accepted   int // recipients that are in
	// Missing names the fact or the answer without which nothing more can be told; empty if all can.
	Missing string
	Matched []Match // nil in [Recording.Was]
}

// Was is what the engine of then made of it.
func (r *Recording) Was() Play {
	p := Play{Refused: r.Refused, Step: r.Reached}
	for i := range r.Recipients {
		rcpt := &r.Recipients[i]
		switch {
		case rcpt.Ours:
			p.Recipients = append(p.Recipients, rcpt.RecordedDecision)
			continue
		case rcpt.Reply.Code/100 == 2:
			p.Accepted++
		}
		p.Recipients = append(p.Recipients, RecordedDecision{})
	}
	return p
}

// GivenUp tells whether the client ended the transaction without a reason of ours or the backend's.
func (r *Recording) GivenUp() bool {
	return r.Envelope != nil && r.Reply.Code == 0 && !r.Ours &&
		!slices.ContainsFunc(r.Recipients, func(rcpt RecordedRecipient) bool { return rcpt.Reply.Code/100 != 2 })
}

// Same tells whether two plays came to the same actions and reply codes, whatever the words and the rules.
func (p *Play) Same(q *Play) bool {
	if (p.Refused == nil) != (q.Refused == nil) || p.Refused != nil && (p.Step != q.Step || !p.Refused.same(q.Refused)) {
		return false
	}
	return slices.EqualFunc(p.Recipients, q.Recipients, func(a, b RecordedDecision) bool { return a.same(&b) })
}

// Matches tells whether the condition of a rule of that name was true.
func (p *Play) Matches(rule string) bool {
	return slices.ContainsFunc(p.Matched, func(m Match) bool { return m.Rule.Name == rule })
}

func (d *RecordedDecision) same(e *RecordedDecision) bool {
	return d.Action == e.Action && d.Reply.Code == e.Reply.Code && d.Reply.Enhanced == e.Reply.Enhanced
}

func decided(v Verdict) RecordedDecision {
	d := RecordedDecision{Action: v.Action, Reply: v.Reply}
	if v.Rule != nil {
		d.Rule = v.Rule.Name
	}
	return d
}

// NewPlayer makes a player. Without a simulation all that was recorded stands.
func (e *Engine) NewPlayer(s Simulation) *Player {
	return &Player{engine: e, simulation: s, plans: map[planKey]*valuesPlan{}}
}

// playContext has no end: a playback never waits.
var playContext = context.Background()

// playClock stands still: nothing of a playback is timed.
type playClock struct{}

func (playClock) Now() time.Time { return time.Time{} }

// Play runs a recording. The recording is not changed, and the play does not refer to it.
func (p *Player) Play(r *Recording) Play {
	session := r.Session
	if trusted := p.engine.Trusts(session.Client.IP); trusted != session.Trusted {
		changed := *session
		changed.Trusted = trusted
		session = &changed
	}
	g := p.engine.NewGate(session, &Runtime{Clock: playClock{}})
	g.play = &playback{player: p, looks: r.Looks, message: r.Message, recorded: r.Attempt, disguised: r.Disguised}
	s := &playing{Gate: g, recording: r}
	s.run()
	s.out.Matched = g.matchesBefore()
	if g.tx != nil {
		s.out.Matched = append(s.out.Matched[:len(s.out.Matched):len(s.out.Matched)], g.tx.matches...)
	}
	if s.out.Missing == "" {
		s.out.Missing = g.play.missing
	}
	return s.out
}

// playing drives a gate as a front end does.
type playing struct {
	*Gate
	out       Play
	recording *Recording
}

func (s *playing) run() {
	r := s.recording
	if r.Reached == StepConnect && r.Refused == nil && r.Ours { // sent away at the door: no filter heard of it
		return
	}
	s.facts.Set(clientGroup, &s.session.Client)
	s.start(playContext, filters.AtConnect)
	if r.Reached < StepGreet || !s.greet() || r.Reached < StepHelo && r.Refused == nil {
		return
	}
	switch {
	case r.Greeting == nil:
		s.out.Missing = "helo.name"
		return
	case !s.goesOn(StepHelo, s.helo()):
		return
	case r.Envelope == nil:
		if r.Refused != nil { // by the rules of then
			s.out.Missing = "mail.address"
		}
		return
	}
	s.play.bypassed = r.Bypassed.Transaction
	if s.goesOn(StepMail, s.Mail(playContext, r.Envelope)) {
		s.recipients()
	}
	s.conclude()
}

func (s *playing) greet() bool {
	s.play.bypassed = s.recording.Bypassed.Greet
	s.playPauser()
	v := s.verdict(s.evaluate(playContext, filters.AtConnect, &s.facts, 0), &s.facts)
	return s.goesOn(StepGreet, v)
}

// playPauser stands for setPauserFacts.
func (s *playing) playPauser() {
	e := s.engine
	if e.pauser == nil || s.session.Trusted || e.slotOf[e.pauserGroup] < 0 {
		return
	}
	if s.session.AskedByMTA {
		s.facts.Fail(e.pauserGroup)
		return
	}
	s.play.start(s.Gate, e.observations[e.slotOf[e.pauserGroup]])
}

func (s *playing) helo() Verdict {
	s.play.bypassed = s.recording.Bypassed.Helo
	return s.Helo(playContext, s.recording.Greeting)
}

// goesOn notes the verdict of a step, and tells whether there is a next one.
func (s *playing) goesOn(step Step, v Verdict) bool {
	s.out.Step = step
	if s.play.missing != "" {
		return false
	}
	if v.Action != 0 {
		d := decided(v)
		s.out.Refused = &d
		return false
	}
	return true
}

// recipients runs RCPT for each recipient, and what is behind it.
func (s *playing) recipients() {
	r := s.recording
	if r.Reached == StepMail && r.Refused != nil {
		s.out.Missing = "rcpt.address"
		return
	}
	if len(r.Recipients) >= maxRecipientRecords {
		s.out.Missing = "rcpt.address" // of those behind the last that was recorded
		return
	}
	s.out.Recipients = make([]RecordedDecision, 0, len(r.Recipients))
	for i := range r.Recipients {
		if !s.recipient(&r.Recipients[i]) {
			return
		}
	}
	stopped := r.stopped()
	if s.out.Accepted == 0 || r.Reached < StepData && !stopped {
		return
	}
	if !s.goesOn(StepData, s.Data(playContext)) || r.Reached < StepMessage && !stopped {
		return
	}
	if s.message(); r.Reached < StepEnd && !stopped {
		return
	}
	v := s.judgeMessage(playContext)
	s.goesOn(StepEnd, v)
}

// stopped tells whether our rules ended the transaction, rather than the client or the backend.
func (r *Recording) stopped() bool {
	if r.Refused != nil {
		return true
	}
	ours := false
	for i := range r.Recipients {
		rcpt := &r.Recipients[i]
		if !rcpt.Ours && rcpt.Reply.Code/100 == 2 {
			return false
		}
		ours = ours || rcpt.Ours
	}
	return ours && r.Reached == StepRcpt
}

// recipient runs one RCPT. False: nothing behind it can be told.
func (s *playing) recipient(rcpt *RecordedRecipient) bool {
	s.out.Step = StepRcpt
	s.play.rcpt = rcpt.Looks
	v := s.Rcpt(playContext, &filters.Recipient{ForwardPath: rcpt.Address, Params: rcpt.Params})
	switch {
	case s.play.missing != "":
		return false
	case v.Action != 0:
	case !rcpt.Asked:
		s.out.Missing = "the mail server's answer to RCPT"
		return false
	case rcpt.Ours || rcpt.Reply.Code/100 == 2:
		if v = s.Accepted(playContext); v.Action == 0 {
			s.out.Accepted++
		}
	default:
		s.Refused(rcpt.Reply)
	}
	s.out.Recipients = append(s.out.Recipients, decided(v))
	return s.play.missing == ""
}

// message starts what looks at the message.
func (s *playing) message() { s.lookAtMessage(playContext) }

// conclude looks at the observed rules, and lets those filters know that remember.
func (s *playing) conclude() {
	s.endRecipient()
	s.evaluateObserved(s.judged(), s.tx.watched.from, s.tx.watched.end)
	if s.play.missing != "" || s.out.Missing != "" {
		return
	}
	outcome, supposed := s.ending()
	s.play.tell(s.Gate, outcome, supposed)
}

// ending is how the message ended, and whether that is only supposed.
func (s *playing) ending() (o filters.Outcome, supposed bool) {
	r := s.recording
	o = filters.Outcome{Kind: filters.MessageOutcome, Code: r.Reply.Code, Ours: r.Ours, Size: r.Size}
	switch {
	case s.likeThen(): // whatever it came to
	case s.out.Refused != nil:
		o.Code, o.Ours, supposed = s.out.Refused.Reply.Code, true, s.out.Step > r.Reached
	case s.out.Accepted == 0:
		o.Code, o.Ours = 0, false
	case r.stopped(): // it would have gone on, to the backend
		o.Code, o.Ours, supposed = 250, false, true
	case r.Reply.Code == 0: // it left, perhaps because of what became of a recipient
		supposed = true
	}
	o.GivenUp = o.Code == 0 && !o.Ours && s.unhindered()
	return o, supposed
}

// likeThen tells whether the same was decided as when it was recorded.
func (s *playing) likeThen() bool {
	r, p := s.recording, &s.out
	if (p.Refused == nil) != (r.Refused == nil) || p.Refused != nil && (p.Step != r.Reached || !p.Refused.same(r.Refused)) {
		return false
	}
	for i := range p.Recipients {
		then := &RecordedDecision{}
		if r.Recipients[i].Ours {
			then = &r.Recipients[i].RecordedDecision
		}
		if !p.Recipients[i].same(then) {
			return false
		}
	}
	return len(p.Recipients) == len(r.Recipients)
}

// tell stands for the gate's own.
func (p *playback) tell(g *Gate, outcome filters.Outcome, supposed bool) {
	if p.player.simulation != nil && p.missing == "" {
		outcome.View = g.view()
		p.player.simulation.Concluded(&outcome, supposed)
	}
}

// unhindered tells that nothing was refused or deferred.
func (s *playing) unhindered() bool {
	for i, d := range s.out.Recipients {
		rcpt := &s.recording.Recipients[i]
		if d.Action != 0 || !rcpt.Ours && rcpt.Reply.Code/100 != 2 {
			return false
		}
	}
	return true
}
