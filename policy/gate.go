package policy

import (
	"context"
	"fmt"
	"math"
	"runtime/debug"
	"sync"
	"time"

	"gatepost/filters"
	"gatepost/rules"
)

// Gate follows one connection. It belongs to the session's goroutine: no method may be called while another runs. It
// owns the filters' goroutines and has ended all of them when Close returns.
//
// A context given to a method bounds all waiting in it: what is not known when it ends has failed with a time-out, for
// as long as its facts would have lived.
type Gate struct {
	engine   *Engine
	runtime  *Runtime
	session  *filters.Session
	greeting *filters.Greeting
	tx       *transaction // nil outside of a mail transaction

	facts rules.Facts // of the connection; transaction and recipient have copies
	slots []slot      // by observation, up to those at EHLO; the transaction has the others
	busy  *activity   // nil while nothing runs, and nothing has failed
	story *story      // nil while there is nothing to tell: most clients are like that
	play  *playback   // nil but where a recording is run again

	closedAt     int32 // an accept for the session closes the rules behind it
	transactions int32
	step         Step // how far the connection has come
	bypassing    Bypassed
	resting      bool       // see activity; guarded by mu
	mu           sync.Mutex // guards what goroutines hand back and, while resting, all of the gate
}

// story is what rules and the front end had to say of a connection.
type story struct {
	connected  carried
	greeted    carried
	matches    []Match
	matchesAt0 int          // matches before the first greeting
	scoreAt0   float64      // points before the first greeting
	refused    *Decision    // at the step that the connection has come to; nil: it was not
	lastWord   *rules.Reply // see HungUp; nil: none
}

// told returns the story, to be added to.
func (g *Gate) told() *story {
	if g.story == nil {
		g.story = new(story)
	}
	return g.story
}

// refusedBefore is the decision by which the connection was refused, or nil.
func (g *Gate) refusedBefore() *Decision {
	if g.story == nil {
		return nil
	}
	return g.story.refused
}

// matchesBefore are those of the connection.
func (g *Gate) matchesBefore() []Match {
	if g.story == nil {
		return nil
	}
	return g.story.matches
}

// activity is what a gate has only while observations run, or when one has failed: most gates at any time wait for their
// client.
type activity struct {
	running []*run         // goroutines that have not handed back yet
	latest  []*run         // of the observations that are running or have failed, one each
	ends    [levels]*scope // nil where nothing runs
	room    [2][4]*run     // for the first of running and latest

	back *run          // what goroutines handed back; guarded by Gate.mu
	bell chan struct{} // nil while the gate does not wait; guarded by Gate.mu
}

// transaction is what lives from MAIL to Conclude.
type transaction struct {
	carried
	envelope *filters.Envelope
	mail     MailFacts
	message  MessageFacts
	facts    *rules.Facts
	slots    []slot // of the observations behind EHLO
	bypassed bool
	closedAt int // an accept for the transaction closes the rules behind it
	matches  []Match

	rcpt       *recipient   // the last one asked for or answered, until the next
	aside      []*recipient // those whose answer comes later, oldest first
	asked      int          // RCPT commands so far
	class      *recipient   // the first accepted one; stands for all of them
	accepted   []*filters.Recipient
	recipients []RecipientRecord
	places     []int        // of those, in the order of their commands
	split      bool         // a recipient of another class was sent away, and so is everyone behind it
	spare      *rules.Facts // of a recipient who is settled
	watched    stretch      // rules about the message whose observed ones are looked at in the end
	grey       greylisting
	body       *filters.Message
	looking    bool // at the message: its observations have been started
	complete   bool // the message was, when they were
	bodyLeft   bool // only its header will be there
	header     *filters.Header
	step       Step           // how far it has come
	refused    *Decision      // there; nil: it was not
	looked     []FilterRecord // of all recipients
}

// carried is what rules that do not refuse leave for the end of data.
type carried struct {
	tags    []string
	instead *rules.Rule // by which the message is not delivered but thrown away or kept in quarantine
}

// noneClosed is a place behind all rules.
const noneClosed = math.MaxInt32

// NewGate begins a connection.
func (e *Engine) NewGate(s *filters.Session, rt *Runtime) *Gate {
	g := &Gate{
		engine:   e,
		runtime:  rt,
		session:  s,
		facts:    e.blank.WithRoom(e.lasting + greetingGroups),
		slots:    make([]slot, e.lasting),
		closedAt: noneClosed,
	}
	if rt == nil {
		g.runtime = &Runtime{}
	}
	if s.Trusted {
		g.closedAt = -1
	}
	if s.Submission {
		e.failInbound(&g.facts)
	}
	return g
}

// Connect starts the observations of the connection. The greeting shall be held back for pause (0 if no rule that is
// enforced reads the pauser's facts), then Greet is called.
func (g *Gate) Connect(ctx context.Context) (pause time.Duration) {
	g.facts.Set(clientGroup, &g.session.Client)
	g.start(ctx, filters.AtConnect)
	if !g.engine.pauses || g.session.Trusted || g.session.Submission || g.session.AskedByMTA || g.bypassed() {
		return 0
	}
	defer g.recovered("GreetPause", &pause)
	return max(0, g.engine.pauser.GreetPause(g.foreseeing(ctx, nil), g.session))
}

// foreseeing tells the store what the session will ask it about its client and, with an envelope, about its sender.
func (g *Gate) foreseeing(ctx context.Context, e *filters.Envelope) context.Context {
	readers, session := g.engine.ledgerReaders, g.session
	if len(readers) == 0 {
		return ctx
	}
	return filters.WithForeseen(ctx, func() (keys []string) {
		for _, r := range readers {
			keys = append(keys, r.WillRead(session, e)...)
		}
		return keys
	})
}

// carrier is what rules of a stage leave for the end of data.
func (g *Gate) carrier(stage filters.Stage) *carried {
	switch stage {
	case filters.AtConnect:
		return &g.told().connected
	case filters.AtHelo:
		return &g.told().greeted
	case filters.AtRcpt:
		return &g.tx.rcpt.carried
	default:
		return &g.tx.carried
	}
}

// recovered turns a panic of a filter outside of an observation into a log line and its result into the zero value.
func (g *Gate) recovered(method string, result *time.Duration) {
	if v := recover(); v != nil {
		*result = 0
		g.engine.log.Error("filter panicked", "session", g.session.ID, "method", method, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	}
}

// Greet decides what the greeting is. talked tells that the client spoke during the pause, waited how long it lasted.
func (g *Gate) Greet(ctx context.Context, talked bool, waited time.Duration) Verdict {
	g.setPauserFacts(talked, waited)
	g.bypassing.Greet = g.bypassed()
	r := g.evaluate(ctx, filters.AtConnect, &g.facts, 0)
	if g.story != nil || g.facts.Score() != 0 {
		g.told().matchesAt0, g.told().scoreAt0 = len(g.story.matches), g.facts.Score()
	}
	v := g.verdict(r, &g.facts)
	g.reach(StepGreet, v)
	return v
}

// Helo publishes the greeting; it may be called again (after STARTTLS, a second EHLO, AUTH): what was known from the
// last one is forgotten (RFC 3207, 4.2). A transaction must have been concluded before.
func (g *Gate) Helo(ctx context.Context, h *filters.Greeting) Verdict {
	g.end(greetingLevel)
	g.facts.SetScore(0)
	if s := g.story; s != nil {
		s.matches = s.matches[:min(len(s.matches), s.matchesAt0)]
		g.facts.SetScore(s.scoreAt0)
		s.greeted = carried{}
	}
	g.greeting = h
	g.facts.Set(heloGroup, h)
	g.facts.Set(protectionGroup, protectionFacts(h))
	g.facts.Set(signInGroup, signInFacts(h))
	g.start(ctx, filters.AtHelo)
	g.bypassing.Helo = g.bypassed()
	v := g.verdict(g.evaluate(ctx, filters.AtHelo, &g.facts, 0), &g.facts)
	g.reach(StepHelo, v)
	return v
}

// Mail starts a transaction.
func (g *Gate) Mail(ctx context.Context, e *filters.Envelope) Verdict {
	g.poll()
	tx := &transaction{
		envelope: e,
		closedAt: noneClosed,
		bypassed: g.bypassed(),
		facts:    g.facts.Clone(g.engine.groups),
		slots:    make([]slot, len(g.engine.observations)-len(g.slots)),
	}
	tx.mail.fill(e)
	tx.facts.Set(mailGroup, &tx.mail)
	g.bypassing.Transaction = tx.bypassed
	g.tx = tx
	g.transactions++
	g.start(ctx, filters.AtMail)
	v := g.verdict(g.evaluate(ctx, filters.AtMail, tx.facts, 0), tx.facts)
	g.reach(StepMail, v)
	return v
}

// ClientNames returns what the filter rdns found out: the client's confirmed host name and the first one that its
// address claims, each empty if there is none. known is false while that could not be found out. It waits for the
// filter.
func (g *Gate) ClientNames(ctx context.Context) (confirmed, claimed string, known bool) {
	for i, o := range g.engine.observations {
		if o.filter == "rdns" {
			g.join(ctx, []int{i})
		}
	}
	name, known := g.facts.Lookup("rdns.name")
	confirmed, _ = name.(string)
	if names, ok := g.facts.Lookup("rdns.names"); ok {
		if list, ok := names.([]string); ok && len(list) > 0 {
			claimed = list[0]
		}
	}
	return confirmed, claimed, known
}

// SenderDomain returns the domain that SPF has authenticated, as far as that is known now, or "". A pass that covers
// everybody authenticates nobody.
func (g *Gate) SenderDomain() string {
	facts := g.judged()
	if wide, _ := facts.Lookup("spf.wide"); wide == true {
		return ""
	}
	domain, _ := facts.Lookup("spf.authenticated")
	name, _ := domain.(string)
	return name
}

// Data decides at DATA or the first BDAT, before anything is asked of the backend. With a zero Verdict
// Message must follow.
func (g *Gate) Data(ctx context.Context) Verdict {
	g.endRecipient()
	v := g.judgeRecipients(ctx)
	g.reach(StepData, v)
	return v
}

func (g *Gate) judgeRecipients(ctx context.Context) Verdict {
	if rule := g.tx.grey.atData; rule != nil && g.greylist(ctx) {
		return g.greylistVerdict(rule, g.judged())
	}
	g.start(ctx, filters.AtData)
	return g.evaluateBehindRecipients(ctx, filters.AtData)
}

// Message tells that the message has begun. It must not be released before Conclude has returned.
func (g *Gate) Message(m *filters.Message) {
	g.tx.body = m
	g.reach(StepMessage, Verdict{})
}

// Growing starts the observations of the message, beside the session, as more of it has to be waited for. It may be called
// again. Those of a message that is complete before are left to EndOfData, which has mostly no need of goroutines.
func (g *Gate) Growing() {
	if g.tx.looking {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	g.lookAtMessage(ctx)
}

func (g *Gate) lookAtMessage(ctx context.Context) {
	g.tx.looking = true
	if len(g.engine.byStage[filters.AtMessage]) > 0 && !g.discards() {
		g.start(ctx, filters.AtMessage)
	}
}

// EndOfData joins and decides. The message must be complete.
func (g *Gate) EndOfData(ctx context.Context) (Verdict, Edits) {
	v := g.judgeMessage(ctx)
	if (v.Action == 0 || v.Keeps()) && g.joinEditors(ctx) && v.Action == 0 {
		v = g.refusal(rules.Defer, undecided, nil)
	}
	g.reach(StepEnd, v)
	if v.Action != 0 && !v.Keeps() {
		return v, Edits{}
	}
	return v, g.edits(ctx)
}

func (g *Gate) judgeMessage(ctx context.Context) Verdict {
	tx := g.tx
	if g.discards() {
		return g.insteadVerdict(g.instead())
	}
	g.messageComplete(ctx)
	if rule := g.instead(); rule != nil {
		return g.insteadVerdict(rule)
	}
	v := g.evaluateBehindRecipients(ctx, filters.AtMessage)
	if v.Action == 0 && tx.instead != nil {
		d := g.insteadVerdict(tx.instead)
		d.Delay = v.Delay
		return d
	}
	return v
}

// messageComplete makes the facts of the message known and lets the clock of its observations run.
func (g *Gate) messageComplete(ctx context.Context) {
	tx := g.tx
	if !tx.looking {
		tx.complete = true
		g.lookAtMessage(ctx)
	}
	if g.play != nil {
		g.play.complete(g)
		return
	}
	g.startClock()
	header, err := tx.body.Header(ctx)
	if err != nil {
		g.engine.log.Warn("message header could not be read", "transaction", tx.envelope.ID, "error", err)
		g.fail(transactionLevel, messageGroup)
		return
	}
	tx.header = header
	if !tx.bodyLeft {
		tx.message.size = int(tx.body.Size())
		tx.message.Size = &tx.message.size
	}
	tx.message.Header = collectFields(header, g.engine.set.Headers())
	g.publish(transactionLevel, messageGroup, &tx.message)
}

// evaluateBehindRecipients evaluates a stage at which the first accepted recipient stands for all.
func (g *Gate) evaluateBehindRecipients(ctx context.Context, stage filters.Stage) Verdict {
	var delay time.Duration
	for from := 0; ; {
		r := g.evaluate(ctx, stage, g.judged(), from)
		r.delay += delay
		if !r.greylists() {
			return g.verdict(r, g.judged())
		}
		if g.greylist(ctx) {
			v := g.greylistVerdict(r.rule.Rule, g.judged())
			v.Delay = min(r.delay, maxDelay)
			return v
		}
		delay, from = r.delay, r.rule.place+1
	}
}

// Facts returns those by which the message is judged. They are the gate's: what is needed of them later has to be copied.
func (g *Gate) Facts() *rules.Facts { return g.judged() }

// judged returns the facts by which the innermost level is judged.
func (g *Gate) judged() *rules.Facts {
	switch {
	case g.tx == nil:
		return &g.facts
	case g.tx.rcpt != nil:
		return g.tx.rcpt.facts
	case g.tx.class != nil:
		return g.tx.class.facts
	default:
		return g.tx.facts
	}
}

// instead returns the rule by which the message is not delivered, whatever it turns out to be, or nil: the first one, for
// those behind the recipients carry nothing if there is one already.
func (g *Gate) instead() *rules.Rule {
	if s := g.story; s != nil && s.connected.instead != nil {
		return s.connected.instead
	} else if s != nil && s.greeted.instead != nil {
		return s.greeted.instead
	}
	if g.tx.instead != nil {
		return g.tx.instead
	}
	if g.tx.class != nil {
		return g.tx.class.instead
	}
	return nil
}

// discards tells that nobody is going to look at the message. One in quarantine goes there with what filters find out.
func (g *Gate) discards() bool {
	rule := g.instead()
	return rule != nil && rule.Action == rules.Discard
}

// carry leaves a rule of a stage, by which the message is not delivered, for the end of data.
func (g *Gate) carry(stage filters.Stage, rule *rules.Rule) {
	if stage > filters.AtRcpt && g.instead() != nil {
		return
	}
	if c := g.carrier(stage); c.instead == nil {
		c.instead = rule
	}
}

// bypassed tells whether terminal actions are only recorded.
func (g *Gate) bypassed() bool {
	if g.tx != nil {
		return g.tx.bypassed
	}
	if g.play != nil {
		return g.play.bypassed
	}
	return g.runtime.Bypass.on(g.runtime.now)
}

// view is what is known now.
func (g *Gate) view() filters.View {
	v := filters.View{Session: g.session, Greeting: g.greeting, Facts: readable{g.judged()}}
	if tx := g.tx; tx != nil {
		v.Envelope, v.Message = tx.envelope, tx.body
		if tx.rcpt != nil {
			v.Recipient = &tx.rcpt.Recipient
		} else {
			v.Recipients = tx.accepted
		}
	}
	return v
}
