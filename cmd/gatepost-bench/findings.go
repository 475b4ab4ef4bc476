package main

import "math"

// finding is one figure that was measured, beside its goal.
type finding struct {
	title   string
	figures []float64 // of all rounds
	unit    string
	digits  int
	goal    goal
	spread  func([]float64) float64 // what ± is; nil: that of the rounds
}

// goal is what a figure should be. The zero goal asks for nothing.
type goal struct {
	bound float64
	sense sense
}

type sense int

const (
	none sense = iota
	atLeast
	atMost
)

func (g goal) String() string {
	switch g.sense {
	case atLeast:
		return "≥ " + plain(g.bound)
	case atMost:
		return "≤ " + plain(g.bound)
	}
	return "–"
}

// verdict says whether the median reaches the goal.
func (f finding) verdict() string {
	value := median(f.figures)
	switch {
	case math.IsNaN(value):
		return "not measured"
	case f.goal.sense == none:
		return "–"
	case f.goal.sense == atLeast && value >= f.goal.bound, f.goal.sense == atMost && value <= f.goal.bound:
		return "met"
	}
	return "missed"
}

func (f finding) deviation() float64 {
	if f.spread != nil {
		return f.spread(f.figures)
	}
	return spread(f.figures)
}

func (b *bench) found(f finding) { b.report.findings = append(b.report.findings, f) }

func (r *report) findingsTable() table {
	t := table{title: "goals", header: []string{"", "measured", "±", "unit", "goal", ""}}
	for _, f := range append(r.contestFindings(), r.findings...) {
		t.rows = append(t.rows, []string{f.title, number(median(f.figures), f.digits), number(f.deviation(), f.digits), f.unit, f.goal.String(), f.verdict()})
	}
	return t
}

// contestFindings compares the contests with what they should come to.
func (r *report) contestFindings() []finding {
	var all []finding
	for _, g := range contestGoals {
		for _, c := range r.contests {
			turns := c.turnsOf(g.peer)
			if c.scenario.key != g.scenario || turns == nil {
				continue
			}
			haproxy := c.turnsOf(haproxyKey)
			if g.measure.ofHAProxy && haproxy == nil {
				continue
			}
			f := finding{title: g.title + ", " + g.measure.title, unit: g.measure.unit, digits: 2, goal: g.goal}
			if g.measure.bytes {
				f.digits = 0
			}
			f.figures = g.measure.figures(c, turns, haproxy, c.turnsOf(directKey))
			all = append(all, f)
		}
	}
	return append(all, r.journalFindings()...)
}

// journalFindings tell what the journal costs a proxy that works all the time: journal_linux.go has what it is to cost.
func (r *report) journalFindings() (all []finding) {
	for _, c := range r.contests {
		if with, without := c.turnsOf(fullKey), c.turnsOf(silentKey); with != nil && without != nil {
			all = append(all, finding{title: c.scenario.title + ", all filters, at full speed, processor time with the journal", unit: "× without", digits: 2,
				figures: compared(with, without, func(a, b turn) float64 { return a.CPU() / b.CPU() })})
		}
	}
	return all
}

// contestMeasure is a way to look at the turns of a peer.
type contestMeasure struct {
	title, unit      string
	ofHAProxy, bytes bool
	figures          func(c contest, turns, haproxy, direct []turn) []float64
}

var (
	throughput = contestMeasure{title: "throughput", unit: "× HAProxy", ofHAProxy: true, figures: func(_ contest, turns, haproxy, _ []turn) []float64 {
		return compared(turns, haproxy, ratio)
	}}
	bandwidth = contestMeasure{title: "throughput", unit: "MB/s", bytes: true, figures: func(c contest, turns, _, _ []turn) []float64 {
		rates := figures(turns, turn.Rate)
		for i := range rates {
			rates[i] *= float64(c.size) / 1e6
		}
		return rates
	}}
	cpuTime   = contestMeasure{title: "processor time", unit: "s per 1,000", figures: func(_ contest, turns, _, _ []turn) []float64 { return figures(turns, turn.CPU) }}
	addedTime = contestMeasure{title: "added median latency", unit: "× HAProxy", ofHAProxy: true, figures: func(_ contest, turns, haproxy, direct []turn) []float64 {
		ours, theirs := compared(turns, direct, difference), compared(haproxy, direct, difference)
		for i := range min(len(ours), len(theirs)) {
			ours[i] /= theirs[i]
		}
		return ours
	}}
	slowest = contestMeasure{title: "p99", unit: "× HAProxy", ofHAProxy: true, figures: func(_ contest, turns, haproxy, _ []turn) []float64 {
		return compared(turns, haproxy, func(a, b turn) float64 { return a.P99() / b.P99() })
	}}
)

// contestGoals are what the contests should come to. Those are meant for a hand-over and an envelope in one segment
// (backend.eager); what the default comes to, which waits for each answer, is told beside them.
var contestGoals = []struct {
	scenario, peer, title string
	measure               contestMeasure
	goal                  goal
}{
	{"one", eagerKey, "one message a session, relaying with reuse, eager", throughput, goal{1.15, atLeast}},
	{"one", relayKey, "one message a session, relaying with reuse", throughput, goal{}},
	{"one", eagerFreshKey, "one message a session, relaying without reuse, eager", throughput, goal{0.9, atLeast}},
	{"one", freshKey, "one message a session, relaying without reuse", throughput, goal{}},
	{"signed", eagerFullKey, "one signed message a session, all filters, eager", throughput, goal{0.7, atLeast}},
	{"signed", fullKey, "one signed message a session, all filters", throughput, goal{}},
	{"ten", eagerKey, "ten messages a session, relaying with reuse, eager", throughput, goal{0.95, atLeast}},
	{"ten", relayKey, "ten messages a session, relaying with reuse", throughput, goal{}},
	{"ten", eagerFreshKey, "ten messages a session, relaying without reuse, eager", throughput, goal{0.8, atLeast}},
	{"ten", freshKey, "ten messages a session, relaying without reuse", throughput, goal{}},
	{"pipelined", eagerKey, "pipelined, relaying with reuse, eager", throughput, goal{0.9, atLeast}},
	{"pipelined", relayKey, "pipelined, relaying with reuse", throughput, goal{}},
	{"pipelined", plainKey, "pipelined, relaying with reuse to a sink without CHUNKING, eager", throughput, goal{0.65, atLeast}},
	{"pipelined", eagerFreshKey, "pipelined, relaying without reuse, eager", throughput, goal{0.75, atLeast}},
	{"pipelined", freshKey, "pipelined, relaying without reuse", throughput, goal{}},
	{"bulk", eagerKey, "1 MiB, relaying with reuse, eager", throughput, goal{1.1, atLeast}},
	{"bulk", relayKey, "1 MiB, relaying with reuse", throughput, goal{}},
	{"bulk", eagerFreshKey, "1 MiB, relaying without reuse, eager", throughput, goal{0.9, atLeast}},
	{"bulk", freshKey, "1 MiB, relaying without reuse", throughput, goal{}},
	{"bulk-signed", fullKey, "1 MiB signed, all filters", bandwidth, goal{120, atLeast}},
	{"one", eagerKey, "one message a session, relaying with reuse, eager", cpuTime, goal{0.18, atMost}},
	{"one", relayKey, "one message a session, relaying with reuse", cpuTime, goal{}},
	{"one", eagerFreshKey, "one message a session, relaying without reuse, eager", cpuTime, goal{0.24, atMost}},
	{"one", freshKey, "one message a session, relaying without reuse", cpuTime, goal{}},
	{"signed", eagerFullKey, "one signed message a session, all filters, eager", cpuTime, goal{0.40, atMost}},
	{"signed", fullKey, "one signed message a session, all filters", cpuTime, goal{}},
	{"alone", eagerKey, "one session at a time, relaying with reuse, eager", addedTime, goal{1.15, atMost}},
	{"alone", relayKey, "one session at a time, relaying with reuse", addedTime, goal{}},
	{"alone", eagerFreshKey, "one session at a time, relaying without reuse, eager", addedTime, goal{2.2, atMost}},
	{"alone", freshKey, "one session at a time, relaying without reuse", addedTime, goal{}},
	{"one", eagerKey, "one message a session, relaying with reuse, eager", slowest, goal{1.5, atMost}},
	{"one", relayKey, "one message a session, relaying with reuse", slowest, goal{}},
}
