package replay

import (
	"cmp"
	"slices"
	"time"

	"gatepost/policy"
)

// Backtest runs recordings again under an engine and collects what changes. It is for one goroutine.
type Backtest struct {
	player   *policy.Player
	sim      *simulation
	base     *Backtest // nil: changes are those from what was recorded
	last     policy.Play
	report   Report
	groups   map[groupKey]*Group
	untold   map[untoldKey]*Untold
	rules    map[ruleKey]*RuleCount
	was, is  []outcome
	mentions int
}

type groupKey struct {
	was, is   Fate
	from, to  string
	was2, is2 int // reply codes
}

type untoldKey struct {
	missing string
	was     Fate
	by      string
	code    int
}

type ruleKey struct {
	rule string
	fate Fate
}

// New makes a backtest of an engine that was compiled with m.
func New(e *policy.Engine, m *Memory) *Backtest {
	sim := newSimulation(e, m)
	return &Backtest{
		player: e.NewPlayer(sim), sim: sim,
		groups: map[groupKey]*Group{}, untold: map[untoldKey]*Untold{}, rules: map[ruleKey]*RuleCount{},
	}
}

// Against makes a backtest tell the changes from what another one finds, which must be given each recording before: so
// that the effect of one rule stands apart from what has changed since it was recorded.
func (b *Backtest) Against(base *Backtest) *Backtest { b.base = base; return b }

// maxMentions bounds the transactions that a report names; all are counted.
const maxMentions = 200_000

// Add runs a recording. They come in the order in which they ended.
func (b *Backtest) Add(r *policy.Recording) {
	b.count(r)
	b.sim.begin(r)
	play := b.player.Play(r)
	b.sim.end(r, &play)
	b.last = play
	if r.Envelope == nil && r.Transactions > 0 {
		return // its transactions tell
	}
	was := r.Was()
	b.was = outcomes(b.was[:0], &was, r, nil)
	if b.base != nil {
		was = b.base.last
		b.was = append(b.was[:0], b.base.is...)
	}
	switch missing := cmp.Or(was.Missing, play.Missing); {
	case missing != "":
		b.is = append(b.is[:0], b.was...)
		b.mentionUntold(missing, r)
	default:
		b.is = outcomes(b.is[:0], &play, r, b.was)
		b.tell(r, was.Same(&play))
	}
}

// Last is the play of the last recording, good until the next.
func (b *Backtest) Last() *policy.Play { return &b.last }

func (b *Backtest) count(r *policy.Recording) {
	if r.Envelope == nil {
		b.report.Sessions++
	} else {
		b.report.Transactions++
	}
	if b.report.From.IsZero() || r.Start.Before(b.report.From) {
		b.report.From = r.Start
	}
	if r.Start.After(b.report.To) {
		b.report.To = r.Start
	}
}

// tell counts the outcome, and a change if there is one. The recipient whose change is worst stands for all.
func (b *Backtest) tell(r *policy.Recording, same bool) {
	b.report.Told++
	worst, at := severities, 0
	for i := range b.is {
		b.countRule(b.was[i], true)
		b.countRule(b.is[i], false)
		if s := severity(b.was[i].fate, b.is[i].fate); s < worst && changed(b.was[i], b.is[i]) {
			worst, at = s, i
		}
	}
	if same || worst == severities {
		return
	}
	b.report.Differ++
	was, is := b.was[at], b.is[at]
	key := groupKey{was.fate, is.fate, ruleOf(was), ruleOf(is), code(was), code(is)}
	g := b.groups[key]
	if g == nil {
		g = &Group{Severity: worst, Was: was.fate, Is: is.fate, WasBy: key.from, IsBy: key.to, WasCode: key.was2, IsCode: key.is2}
		b.groups[key] = g
	}
	g.Count++
	b.mention(&g.Transactions, r)
}

func changed(was, is outcome) bool {
	return was.fate != is.fate || code(was) != code(is) || (was.by == nil) != (is.by == nil) ||
		was.by != nil && was.by.Reply.Enhanced != is.by.Reply.Enhanced
}

func ruleOf(o outcome) string {
	if o.by == nil {
		return ""
	}
	return o.by.Rule
}

func code(o outcome) int {
	if o.by == nil {
		return 0
	}
	return o.by.Reply.Code
}

func (b *Backtest) countRule(o outcome, was bool) {
	key := ruleKey{ruleOf(o), o.fate}
	c := b.rules[key]
	if c == nil {
		c = &RuleCount{Rule: key.rule, Fate: key.fate}
		b.rules[key] = c
	}
	if was {
		c.Was++
	} else {
		c.Is++
	}
}

func (b *Backtest) mentionUntold(missing string, r *policy.Recording) {
	worst := b.was[0]
	for _, o := range b.was {
		b.countRule(o, true)
		b.countRule(outcome{fate: unknown}, false)
		if o.fate > worst.fate {
			worst = o
		}
	}
	key := untoldKey{missing, worst.fate, ruleOf(worst), code(worst)}
	u := b.untold[key]
	if u == nil {
		u = &Untold{Missing: missing, Was: worst.fate, WasBy: key.by, WasCode: key.code}
		b.untold[key] = u
	}
	u.Count++
	b.report.Untold++
	b.mention(&u.Transactions, r)
}

func (b *Backtest) mention(list *[]Mention, r *policy.Recording) {
	if b.mentions >= maxMentions {
		return
	}
	b.mentions++
	*list = append(*list, mentionOf(r))
}

// Report returns what was found so far.
func (b *Backtest) Report() *Report {
	r := b.report
	r.Changes, r.Unknown, r.Rules = []Group{}, []Untold{}, []RuleCount{} // for JSON: none is no null
	for _, g := range b.groups {
		r.Changes = append(r.Changes, *g)
	}
	slices.SortFunc(r.Changes, func(a, b Group) int {
		return cmp.Or(cmp.Compare(a.Severity, b.Severity), cmp.Compare(b.Count, a.Count), cmp.Compare(a.IsBy, b.IsBy), cmp.Compare(a.WasBy, b.WasBy),
			cmp.Compare(a.Was, b.Was), cmp.Compare(a.Is, b.Is), cmp.Compare(a.WasCode, b.WasCode), cmp.Compare(a.IsCode, b.IsCode))
	})
	for _, u := range b.untold {
		r.Unknown = append(r.Unknown, *u)
	}
	slices.SortFunc(r.Unknown, func(a, b Untold) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Missing, b.Missing), cmp.Compare(a.Was, b.Was), cmp.Compare(a.WasBy, b.WasBy), cmp.Compare(a.WasCode, b.WasCode))
	})
	for _, c := range b.rules {
		r.Rules = append(r.Rules, *c)
	}
	slices.SortFunc(r.Rules, func(a, b RuleCount) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Fate, b.Fate))
	})
	return &r
}

// Report is what a backtest found.
type Report struct {
	From         time.Time   `json:"from"` // the first recording
	To           time.Time   `json:"to"`
	Sessions     int         `json:"sessions"`
	Transactions int         `json:"transactions"`
	Told         int         `json:"told"`    // those of which it can be told what would become of them, sessions without mail included
	Differ       int         `json:"differ"`  // those that would come out differently
	Untold       int         `json:"unknown"` // those of which it cannot be told
	Rules        []RuleCount `json:"rules"`
	Changes      []Group     `json:"changes"` // worst first
	Unknown      []Untold    `json:"missing"`
}

// Harmful tells whether something that was delivered would be refused, discarded or quarantined.
func (r *Report) Harmful() bool { return len(r.Changes) > 0 && r.Changes[0].Severity == Lost }

// RuleCount is how many recipients (or sessions that did not come to one) a rule decided about; without a name those of
// which no rule did.
type RuleCount struct {
	Rule string `json:"rule"`
	Fate Fate   `json:"outcome"`
	Was  int    `json:"was"`
	Is   int    `json:"is"`
}

// Group is transactions that change in the same way.
type Group struct {
	Severity     Severity  `json:"-"`
	Was          Fate      `json:"was"`
	WasBy        string    `json:"was_by,omitempty"` // rule
	WasCode      int       `json:"was_code,omitempty"`
	Is           Fate      `json:"is"`
	IsBy         string    `json:"is_by,omitempty"`
	IsCode       int       `json:"is_code,omitempty"`
	Count        int       `json:"count"`
	Transactions []Mention `json:"transactions"` // in order of time; all, unless the whole report names 200,000
}

// Untold is transactions that came out alike and of which it cannot be told, for want of the same fact.
type Untold struct {
	Missing      string    `json:"missing"`
	Was          Fate      `json:"was"`
	WasBy        string    `json:"was_by,omitempty"`
	WasCode      int       `json:"was_code,omitempty"`
	Count        int       `json:"count"`
	Transactions []Mention `json:"transactions"`
}

// Mention names a session or a transaction.
type Mention struct {
	ID         string    `json:"id"`
	Time       time.Time `json:"time"`
	Client     string    `json:"client"`
	From       string    `json:"from,omitempty"`
	Recipients []string  `json:"recipients,omitempty"` // the first few
	Mail       bool      `json:"mail"`                 // it came to MAIL
}

const recipientsMentioned = 3

func mentionOf(r *policy.Recording) Mention {
	m := Mention{ID: r.ID, Time: r.Start, Client: r.Session.Client.IP.String()}
	if r.Envelope != nil {
		m.From, m.Mail = r.Envelope.ReversePath, true
	}
	for i := range r.Recipients[:min(len(r.Recipients), recipientsMentioned)] {
		m.Recipients = append(m.Recipients, r.Recipients[i].Address)
	}
	return m
}
