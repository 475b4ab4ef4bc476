package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"gatepost/proxy/journal"
)

// changed journals what somebody has changed in the running proxy. The log has it already.
func (h *house) changed(c journal.Change) {
	if h.journal == nil {
		return
	}
	c.At = h.clock.Now()
	c.ID = h.ids.Next(c.At)
	h.journal.Changed(c)
}

// rulesInForce journals which rules are in force from now on.
func (h *house) rulesInForce(what string) {
	if h.journal == nil {
		return
	}
	now := h.clock.Now()
	h.journal.InForce(journal.Change{ID: h.ids.Next(now), At: now, What: what}, h.force.engine.Rules().Rules())
}

// maxChanges bounds how many changes are told with a story.
const maxChanges = 20

// changesAbout finds the latest changes that concern what was asked about, or one of the entries that were found.
func changesAbout(ctx context.Context, r *journal.Reader, s subject, found []*journal.Entry) (list []*journal.Entry, err error) {
	err = r.Each(ctx, journal.Query{Newest: true, Changes: journal.ChangesOnly}, func(e *journal.Entry) bool {
		c := e.Change
		asked := c.Concerns(s.client, s.address) || slices.Contains(s.ids, c.ID) || c.About != "" && slices.Contains(s.ids, c.About)
		if asked || slices.ContainsFunc(found, c.ConcernsEntry) {
			list = append(list, e.Clone())
		}
		return len(list) < maxChanges
	})
	slices.SortStableFunc(list, func(a, b *journal.Entry) int { return cmp.Compare(a.End.UnixNano(), b.End.UnixNano()) })
	return list, err
}

// changes tells what operators have done, the oldest first.
func (t *teller) changes(list []*journal.Entry, now time.Time) {
	if len(list) == 0 {
		return
	}
	t.head("What operators have done")
	for _, e := range list {
		t.line(1, "%s, %s ago: %s", local(e.End), spanText(now.Sub(e.End)), e.Change.Text(local))
	}
}

// changeStory tells one change.
func (t *teller) changeStory(e *journal.Entry) {
	t.line(0, "Change %s: %s", e.ID, e.Change.Text(local))
	t.line(0, "%s", e.Start.Local().Format("Mon 2006-01-02 15:04:05.000 MST"))
	if len(e.Change.Rules) == 0 {
		return
	}
	t.head("Rules in force from then on")
	for _, r := range e.Change.Rules {
		observed := ""
		if r.Mode == "observe" {
			observed = ", only watched"
		}
		t.line(1, "%s (%s, at %s%s)", r.Name, r.Action, r.Place(), observed)
	}
}

// changeLine is a change on one line.
func changeLine(e *journal.Entry) string {
	return printable(fmt.Sprintf("%s  %-16s %-8s %s", local(e.End), e.ID, e.Kind, e.Change.Text(local)))
}
