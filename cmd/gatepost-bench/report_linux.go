package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// report is all that was measured.
type report struct {
	machine    []string
	options    options
	versions   []string
	missing    []string
	contests   []contest
	footprints []footprint
	findings   []finding
}

func (r *report) leaveOut(p peer, why error) {
	r.missing = appendNew(r.missing, fmt.Sprintf("%s: left out, %v", p.title, why))
}

func (r *report) addVersion(p peer, version string) {
	if version != "" {
		r.versions = appendNew(r.versions, version)
	}
}

func appendNew(all []string, s string) []string {
	for _, old := range all {
		if old == s {
			return all
		}
	}
	return append(all, s)
}

func (r *report) tables() []table {
	all := []table{r.findingsTable()}
	for _, c := range r.contests {
		all = append(all, c.table())
	}
	if len(r.footprints) > 0 {
		all = append(all, r.memoryTable())
	}
	return all
}

func (r *report) print(w io.Writer) {
	for _, line := range r.preamble() {
		fmt.Fprintln(w, line)
	}
	for _, t := range r.tables() {
		fmt.Fprintf(w, "\n%s", t.text())
	}
}

func (r *report) markdown() []byte {
	var b strings.Builder
	b.WriteString("# Benchmarks\n\nWritten by `make bench`; how it measures is told in cmd/gatepost-bench/doc.go.\n\n")
	for _, line := range r.preamble() {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	for _, t := range r.tables() {
		fmt.Fprintf(&b, "\n%s", t.markdown())
	}
	return []byte(b.String())
}

// notMeasured names other ways to do the same work.
const notMeasured = "Postfix with smtpd_proxy_filter, postscreen, Postfix with opendkim or rspamd, Haraka"

func (r *report) preamble() []string {
	lines := append(append([]string{}, r.machine...), r.versions...)
	lines = append(lines, r.missing...)
	lines = append(lines, "not measured by this program: "+notMeasured)
	chunking := "with CHUNKING"
	if !r.options.chunking {
		chunking = "without CHUNKING"
	}
	return append(lines,
		fmt.Sprintf("medians of %d rounds of %s each, of %d processes for memory, everything on one machine; sink %s",
			r.options.rounds, r.options.time, r.options.repeats, chunking),
		"relaying: no filters, no rules, no digest of messages in the journal (journal.digest); all else is at its default, the journal on",
		"eager: XCLIENT, EHLO, MAIL and RCPT in one segment, for backends that allow it (backend.eager); the goals are meant for that",
		"±: half of the distance between the best and the worst round; where it is said to be of the median, the median of all possible rounds is that near in 19 cases of 20; × and added: medians of what was compared within a round",
		"p50, p99: a transaction from connect (from MAIL for later ones in a session) to the 250 for the message; CPU: of the proxy's process")
}

// table compares the peers in one scenario.
func (c contest) table() table {
	unit := "msg/s"
	if c.scenario.bulk {
		unit = "MB/s"
	}
	t := table{
		title:  c.scenario.title,
		header: []string{"", unit, "±", "× direct", "× HAProxy", "p50", "p99", "p50 added", "CPU s/1,000"},
	}
	direct, haproxy := c.turnsOf(directKey), c.turnsOf(haproxyKey)
	for i, p := range c.peers {
		turns := c.turns[i]
		rates := figures(turns, turn.Rate)
		rate := median(rates)
		if c.scenario.bulk {
			rate *= float64(c.size) / 1e6
		}
		t.rows = append(t.rows, []string{
			p.title, number(rate, 0), percent(spread(rates) / median(rates)),
			number(median(compared(turns, direct, ratio)), 2),
			number(median(compared(turns, haproxy, ratio)), 2),
			span(median(figures(turns, turn.P50))), span(median(figures(turns, turn.P99))),
			span(median(compared(turns, direct, difference))),
			number(median(figures(turns, turn.CPU)), 3),
		})
	}
	return t
}

func (c contest) turnsOf(key string) []turn {
	for i, p := range c.peers {
		if p.key == key {
			return c.turns[i]
		}
	}
	return nil
}

// The figures of a turn; NaN where there is none.

func (t turn) Rate() float64 { return t.valid(t.rate) }
func (t turn) P50() float64  { return t.valid(t.p50.Seconds()) }
func (t turn) P99() float64  { return t.valid(t.p99.Seconds()) }
func (t turn) CPU() float64  { return t.valid(t.cpu) }

func (t turn) valid(v float64) float64 {
	if t.worthless {
		return math.NaN()
	}
	return v
}

func figures(turns []turn, figure func(turn) float64) []float64 {
	var all []float64
	for _, t := range turns {
		all = append(all, figure(t))
	}
	return all
}

// compared puts turns beside those of another peer in the same rounds.
func compared(turns, others []turn, how func(a, b turn) float64) []float64 {
	var all []float64
	for i := range min(len(turns), len(others)) {
		all = append(all, how(turns[i], others[i]))
	}
	return all
}

func ratio(a, b turn) float64      { return a.Rate() / b.Rate() }
func difference(a, b turn) float64 { return a.P50() - b.P50() }

func (r *report) memoryTable() table {
	t := table{
		title: "memory of the process",
		header: []string{"", fmt.Sprintf("bytes per idle connection (%d)", r.options.idle), "±",
			fmt.Sprintf("MiB grown by one message of %d MiB", r.options.large>>20), "±"},
	}
	for _, f := range r.footprints {
		t.rows = append(t.rows, []string{f.peer.title, number(median(f.idle), 0), number(spread(f.idle), 0),
			number(median(f.growth)/(1<<20), 1), number(spread(f.growth)/(1<<20), 1)})
	}
	return t
}

// plain writes a goal without zeros at its end.
func plain(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func number(v float64, decimals int) string {
	if math.IsNaN(v) {
		return "–"
	}
	return fmt.Sprintf("%.*f", decimals, v)
}

func percent(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return fmt.Sprintf("%.0f %%", 100*v)
}

// span writes seconds as milliseconds.
func span(seconds float64) string {
	if math.IsNaN(seconds) {
		return "–"
	}
	return fmt.Sprintf("%.2f ms", seconds*float64(time.Second/time.Millisecond))
}
