package journal

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/rules"
)

// EntryFacts are facts of an entry itself, beside those that filters found. Their names stand alone.
type EntryFacts struct {
	// The id that log, replies and `gatepost why` know it by.
	ID string `fact:"id"`
	// The id of its session.
	Session string `fact:"session"`
	// A transaction, the session that it was part of, or what an operator changed.
	Kind string `fact:"kind" values:"session transaction change"`
	// How it came out: the backend took the message, it was refused for good or for now, thrown away or kept behind a 250
	// of ours, answered 250 because it had been delivered before, the client left or gave up, or a rule closed the
	// connection without a reply.
	Verdict *string `fact:"verdict" values:"accept reject defer discard quarantine duplicate abandon drop"`
	// What the deciding rule did; absent where no rule decided.
	Action *string `fact:"action" values:"accept reject defer greylist discard quarantine drop"`
	// The rule that decided; absent where none did.
	Rule *string `fact:"rule"`
	// All rules that matched and were enforced.
	Rules []string `fact:"rules"`
	// All rules that matched and were only watched.
	Observed []string `fact:"observed"`
	// All recipients, also those who were refused.
	Recipients []string `fact:"recipients"`
	// Filters that failed or took too long.
	Failed []string `fact:"failed"`
	// The backend's address; empty where none was asked.
	Backend string `fact:"backend"`
	// The id under which the backend took the message, or empty.
	QueueID string `fact:"queue_id"`
	// The size of the message; absent where none came.
	Size *int64 `fact:"size" unit:"bytes"`
	// What happened beside the reply, or empty.
	Note string `fact:"note"`
	// For how long it went on.
	Took float64 `fact:"took" unit:"s"`
	// The client has certainly read the final reply.
	Confirmed bool `fact:"confirmed"`
	// What was changed (start, reload and rules: which rules were in force); absent where nothing was.
	Change *string `fact:"change" values:"allow block allow-end block-end pass forget learn release delete bypass bypass-end merge start reload rules"`
	// Who changed it: a user of this machine, or the admin page and the address that it was used from; empty where nobody
	// knows, absent where nothing was changed.
	By *string `fact:"by"`
	// What the change concerns: an address, a network, a domain, the id of a message; absent where nothing was changed.
	About *string `fact:"about"`
	// Why, in the operator's words; absent where nothing was changed.
	Why *string `fact:"why"`
	// SHA-256 of the message, in hexadecimal; absent where it is not known.
	Digest *string `fact:"digest"`
}

// ReplyFacts are about the last word that the client got. They are absent where there was none.
type ReplyFacts struct {
	// 250, 451, 550 and so on.
	Code int `fact:"code"`
	// The enhanced status code, or empty.
	Enhanced string `fact:"enhanced"`
	// The text behind the codes.
	Text string `fact:"text"`
	// It was Gatepost's own and not the backend's.
	Ours bool `fact:"ours"`
}

// SearchSchema is all that a search can ask for: the facts of filters and of the gate, and those of the entry itself.
func SearchSchema(specs []filters.Spec) (*rules.Schema, error) {
	groups := policy.Groups(specs)
	for i := range groups {
		if _, taken := reflect.TypeFor[EntryFacts]().FieldByNameFunc(func(field string) bool { return strings.EqualFold(field, groups[i].Alias) }); taken || groups[i].Alias == "reply" {
			groups[i].Alias = "" // it is written out here
		}
	}
	groups = append(groups,
		rules.Group{Name: "", Type: reflect.TypeFor[EntryFacts](), Stage: int(filters.AtConnect)},
		rules.Group{Name: "reply", Type: reflect.TypeFor[ReplyFacts](), Stage: int(filters.AtConnect)})
	return rules.NewSchema(filters.Stages[:], int(filters.AtRcpt), groups)
}

// Where is a compiled search. It is for one goroutine.
type Where struct {
	expr   *rules.Expr
	binder *Binder
	facts  *rules.Facts
	own    int // group of the entry's own facts; the reply's is the next
	values entryValues
}

// entryValues is the memory for an entry's own facts.
type entryValues struct {
	entry              EntryFacts
	reply              ReplyFacts
	action, rule       string
	digest             string
	size               int64
	rules, observed    []string
	recipients, failed []string
}

// CompileWhere compiles an expression over a schema of SearchSchema. With a problem that is no warning it is nil.
func CompileWhere(schema *rules.Schema, source rules.Source, lists rules.Lists) (*Where, []rules.Problem) {
	expr, problems := rules.CompileExpr(schema, source, lists)
	if expr == nil {
		return nil, problems
	}
	own := slices.IndexFunc(schema.Groups(), func(g rules.Group) bool { return g.Name == "" })
	if own < 0 {
		return nil, []rules.Problem{{Message: "the schema is not one for searching"}}
	}
	return &Where{expr: expr, binder: NewBinder(schema), facts: schema.NewFacts(), own: own}, problems
}

// Match tells whether the condition is true of an entry; where a fact that it needs is absent, it is not.
func (w *Where) Match(e *Entry) bool {
	w.binder.Reset()
	w.binder.Entry(w.facts, e)
	w.values.fill(e)
	w.facts.Set(w.own, &w.values.entry)
	if w.values.reply.Code != 0 {
		w.facts.Set(w.own+1, &w.values.reply)
	} else {
		w.facts.Fail(w.own + 1)
	}
	return w.expr.Match(w.facts) == rules.True
}

func (v *entryValues) fill(e *Entry) {
	f := &v.entry
	*f = EntryFacts{ID: e.ID, Session: sessionOf(e.ID), Kind: e.Kind, Backend: e.Ending.Backend, QueueID: e.Ending.QueueID,
		Note: e.Ending.Note, Took: e.End.Sub(e.Start).Seconds(), Confirmed: !e.Confirmed.IsZero()}
	if c := e.Change; c != nil {
		f.Change, f.By, f.About, f.Why = &c.What, &c.By, &c.About, &c.Why
	} else {
		f.Verdict = &e.Verdict
	}
	if rule := e.Decisive(); rule != nil {
		v.action, v.rule = rule.Action, rule.Name
		f.Action, f.Rule = &v.action, &v.rule
	}
	v.rules, v.observed, v.recipients, v.failed = v.rules[:0], v.observed[:0], v.recipients[:0], v.failed[:0]
	for _, m := range e.Matched {
		if m.Observed {
			v.observed = append(v.observed, m.Rule.Name)
		} else {
			v.rules = append(v.rules, m.Rule.Name)
		}
	}
	for i := range e.Recipients {
		v.recipients = append(v.recipients, e.Recipients[i].Address)
	}
	for i := range e.Filters {
		if x := &e.Filters[i]; x.Trouble() {
			v.failed = append(v.failed, x.Name)
		}
	}
	f.Rules, f.Observed, f.Recipients, f.Failed = v.rules, v.observed, v.recipients, v.failed
	if e.Ending.Size > 0 {
		v.size = e.Ending.Size
		f.Size = &v.size
	}
	if e.Ending.Digest != [32]byte{} {
		v.digest = fmt.Sprintf("%x", e.Ending.Digest)
		f.Digest = &v.digest
	}
	reply, ours := e.Reply()
	v.reply = ReplyFacts{Code: reply.Code, Enhanced: reply.Enhanced, Text: reply.Text, Ours: ours}
}

// Trouble tells whether the filter failed or took too long.
func (f *Filter) Trouble() bool { return f.Status == "timeout" || f.Status == "error" }
