package rules

import (
	"slices"
	"time"
)

// Action is what a rule does when it matches.
type Action uint8

const (
	Accept Action = iota + 1
	Reject
	Defer
	Greylist
	Discard
	Quarantine
	Score
	Tag
	Slow
	Drop
)

var actionNames = [...]string{
	Accept: "accept", Reject: "reject", Defer: "defer", Greylist: "greylist", Discard: "discard", Quarantine: "quarantine",
	Score: "score", Tag: "tag", Slow: "slow", Drop: "drop",
}

// String is the action as rules spell it; the zero Action is "".
func (a Action) String() string { return actionNames[a] }

// ParseAction finds an action by its name.
func ParseAction(name string) (a Action, ok bool) {
	i := slices.Index(actionNames[:], name)
	return Action(max(i, 0)), i > 0
}

// Terminal actions end the evaluation.
func (a Action) Terminal() bool {
	switch a {
	case Score, Tag, Slow:
		return false
	default:
		return a != 0
	}
}

// Mode says whether a rule acts or only records that it would have.
type Mode uint8

const (
	Enforce Mode = iota
	Observe
)

var modeNames = [...]string{Enforce: "enforce", Observe: "observe"}

func (m Mode) String() string { return modeNames[m] }

// Set is compiled rules in order of evaluation: stage, then file. Immutable, safe for concurrent use.
type Set struct {
	rules   []*Rule
	headers []string
	lists   []ListFile
}

// Rules returns the rules in order of evaluation. The slice is the set's own: do not change it.
func (s *Set) Rules() []*Rule { return s.rules }

// Headers names the header fields that rules read, in canonical form, sorted.
func (s *Set) Headers() []string { return s.headers }

// Lists are the list files that rules read, by name. The slice is the set's own: do not change it.
func (s *Set) Lists() []ListFile { return s.lists }

// Rule is one compiled rule. Its fields are not to be changed.
type Rule struct {
	Name         string
	Pos          Pos
	Index        int    // its place in the file, from 0
	When         string // as written
	Action       Action
	Mode         Mode
	Stage        int // where it acts
	Ready        int // the stage from which all facts it reads can be known
	DeferOnError bool
	Keep         bool          // `keep: copy`: a copy of what is refused goes to quarantine
	Points       float64       // for Score
	Delay        time.Duration // for Slow
	// Groups are the groups that decide the condition, sorted: those it reads, and with `score` those that the score
	// rules before it read.
	Groups []int
	// ReplyGroups are the groups that only the reply or the header of a tag shows: worth joining when the rule has
	// matched, if they are there.
	ReplyGroups []int
	// Fields are the facts of the condition in the order in which it names them; header fields look like
	// `header("Subject")`.
	Fields []string

	condition condition
	score     *scoreSum // nil unless it reads `score`
	reads     []*field
	headers   []string
	lists     []string
	code      int
	enhanced  string
	reply     template
	foreign   *field // the reply is this fact's text; nil unless it is
	header    template
}

// Match evaluates the condition. It cannot fail and does not allocate, except where lower() has upper-case letters to
// change outside a comparison with literals. It is meant for the rule's stage: before it, known() is false of what is
// still to come.
func (r *Rule) Match(f *Facts) Truth { return r.condition.match(f) }

// Open tells whether facts that are not there yet (stage later than now) could still decide whether the rule matches:
// neither is that certain already nor impossible. Facts of stages up to now that are not there count as absent for good.
func (r *Rule) Open(f *Facts, now int) bool {
	possible := r.condition.possible(view{facts: f, now: now})
	return possible.has(True) && !possible.settled()
}

// Settled tells whether facts that are not there yet, as for Open, make no difference any more, not even that between
// false and unknown.
func (r *Rule) Settled(f *Facts, now int) bool {
	return r.condition.possible(view{facts: f, now: now}).settled()
}

// Residual appends what is left of the condition when the facts up to stage now are put in: two recipients whose
// residuals are equal get the same answer whatever the later facts turn out to be.
func (r *Rule) Residual(dst []byte, f *Facts, now int) []byte {
	return r.condition.residual(dst, view{facts: f, now: now})
}

// readsRecipient tells whether the answer can differ between recipients of one message.
func (r *Rule) readsRecipient(s *Schema) bool {
	return slices.ContainsFunc(r.Groups, func(group int) bool { return s.groups[group].Stage == s.recipient })
}

// Reply is an SMTP reply of ours. Text holds no control characters but "\n" between lines.
type Reply struct {
	Code     int
	Enhanced string // "5.7.1"
	Text     string
}

// Reply renders the reply template; ok is false when the rule has none, or is to give another's reply that does not fit.
func (r *Rule) Reply(f *Facts) (reply Reply, ok bool) {
	if r.foreign != nil {
		return r.foreignReply(f)
	}
	if r.code == 0 {
		return Reply{}, false
	}
	return Reply{Code: r.code, Enhanced: r.enhanced, Text: r.reply.render(f, maxReplyLine)}, true
}

// Header renders the field of a Tag action, "Name: value" without line end, no control characters.
func (r *Rule) Header(f *Facts) string { return r.header.render(f, maxHeaderLine) }
