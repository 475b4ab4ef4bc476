package simulate

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// Late is from when on mail counts as late.
const Late = 15 * time.Minute

// Result is what came of a run.
type Result struct {
	Kinds    map[string]*Tally
	Unwaited int // messages of snowshoe spammers that passed from a network which had not waited itself
	order    []string
}

func newResult() *Result { return &Result{Kinds: map[string]*Tally{}} }

func (r *Result) of(kind string) *Tally {
	t := r.Kinds[kind]
	if t == nil {
		t = &Tally{Rules: map[string]int{}}
		r.Kinds[kind] = t
		r.order = append(r.order, kind)
	}
	return t
}

// Tally counts a kind of senders.
type Tally struct {
	Attempts, Accepted, Greylisted, Deferred, Refused int            // attempts
	Rules                                             map[string]int // attempts that did not pass, by the rule

	Messages       int // that are delivered or given up; of honest senders, like all that follows
	Lost           int // refused or given up
	Delayed        int // not delivered at the first attempt
	New, NewLate   int // first messages of their senders
	NewDelayed     int
	Known          int // messages of domains of which mail was delivered to anyone here before
	KnownDelayed   int
	Ripe, RipeHeld int // greylisted messages of which a retry came when the delay was over; those that it did not deliver
}

// message is an honest one.
type message struct {
	sender         *sender
	begun          time.Time
	isNew, isKnown bool
	greylisted     bool
	delayed        bool
	ripe, held     bool
}

func (m *message) heard(r Reply, age, delay time.Duration) {
	if m.greylisted && !m.ripe && age >= delay {
		m.ripe, m.held = true, r.Code != 250
	}
	if r.Code != 250 {
		m.delayed = true
	}
	if r.Code == 451 && r.Rule == greylistRule {
		m.greylisted = true
	}
}

// greylistRule is the rule that greylists, in the default rules and in others that are simulated.
const greylistRule = "suspicious"

func (t *Tally) attempt(r Reply) {
	t.Attempts++
	switch {
	case r.Code == 250:
		t.Accepted++
		return
	case r.Rule == greylistRule:
		t.Greylisted++
	case r.comesBack():
		t.Deferred++
	default:
		t.Refused++
	}
	name := r.Rule
	if name == "" {
		name = "(backend)"
	}
	t.Rules[name]++
}

func (t *Tally) ended(m *message, age time.Duration, r Reply) {
	lost := r.Code != 250
	late := lost || age > Late
	t.Messages++
	add(&t.Lost, lost)
	add(&t.Delayed, m.delayed)
	add(&t.New, m.isNew)
	add(&t.NewDelayed, m.isNew && m.delayed)
	add(&t.NewLate, m.isNew && late)
	add(&t.Known, m.isKnown)
	add(&t.KnownDelayed, m.isKnown && m.delayed)
	add(&t.Ripe, m.ripe)
	add(&t.RipeHeld, m.ripe && m.held)
}

func add(n *int, is bool) {
	if is {
		*n++
	}
}

// Honest is all honest kinds together.
func (r *Result) Honest() *Tally {
	sum := &Tally{}
	for _, k := range kinds {
		if t := r.Kinds[k.name]; t != nil {
			sum.Messages += t.Messages
			sum.Lost += t.Lost
			sum.Delayed += t.Delayed
			sum.New += t.New
			sum.NewDelayed += t.NewDelayed
			sum.NewLate += t.NewLate
			sum.Known += t.Known
			sum.KnownDelayed += t.KnownDelayed
			sum.Ripe += t.Ripe
			sum.RipeHeld += t.RipeHeld
		}
	}
	return sum
}

// Kept is which part of a kind's attempts did not pass, in percent.
func (t *Tally) Kept() float64 { return Percent(t.Attempts-t.Accepted, t.Attempts) }

// Percent is 100 where there is nothing to be a part of.
func Percent(part, of int) float64 {
	if of == 0 {
		return 100
	}
	return 100 * float64(part) / float64(of)
}

// Print writes two tables.
func (r *Result) Print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "honest senders\tmessages\tlost\tdelayed\tnew\tof them delayed\tlate\tripe retries\theld\tknown\tdelayed\t")
	line := func(name string, t *Tally) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", name, t.Messages, t.Lost, t.Delayed, t.New, t.NewDelayed, t.NewLate,
			t.Ripe, t.RipeHeld, t.Known, t.KnownDelayed)
	}
	for _, k := range kinds {
		if t := r.Kinds[k.name]; t != nil {
			line(k.name, t)
		}
	}
	line("all", r.Honest())
	_ = w.Flush()
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "spam\tattempts\tgreylisted\tdeferred\trefused\taccepted\tkept out %\t")
	for _, name := range []string{Botnet, Snowshoe, Dictionary, TrapSenders, Hacked} {
		if t := r.Kinds[name]; t != nil {
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%.3f\t\n", name, t.Attempts, t.Greylisted, t.Deferred, t.Refused, t.Accepted, t.Kept())
		}
	}
	_ = w.Flush()
	for _, name := range slices.Sorted(slices.Values(r.order)) {
		if t := r.Kinds[name]; len(t.Rules) > 0 {
			fmt.Fprintf(out, "%s, by rule: %v\n", name, t.Rules)
		}
	}
}
