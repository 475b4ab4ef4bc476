package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatepost/policy"
	"gatepost/policy/replay"
	"gatepost/proxy/admin"
	"gatepost/proxy/config"
	"gatepost/proxy/journal"
	"gatepost/rules"
)

func observeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "observe",
		Short: "Tell what the rules with `mode: observe` would have changed if they had been enforced",
		Long: `For each rule that only observes, run the mail of the last days again with this rule enforced, and tell what would have
come out differently in the end: not where it matched, but where it would have mattered. "gatepost promote RULE" prints the
edit that enforces one.`,
		Args: cobra.NoArgs,
	}
	file := configFlag(cmd)
	p := past{}
	p.flags(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print an array of JSON, an object for each rule")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loaded(*file)
		if err != nil {
			return err
		}
		watched, err := watch(c, p.of(cmd, *file), "", time.Now())
		if err != nil {
			return err
		}
		return writeWatched(cmd.OutOrStdout(), watched, *asJSON)
	}
	return cmd
}

// watchedRule is a rule that only observes, and what it would have done.
type watchedRule struct {
	*admin.Observed

	definition *rules.Definition
	trial      *replay.Backtest
}

// watch runs the journal again with each observed rule enforced, or with that of a name.
func watch(c *config.Config, from recorded, name string, now time.Time) ([]*watchedRule, error) {
	base, err := newTrial(c, "")
	if err != nil {
		return nil, err
	}
	var list []*watchedRule
	for i := range c.Rules {
		d := &c.Rules[i]
		if d.Mode.Text != rules.Observe.String() || name != "" && d.Name.Text != name {
			continue
		}
		trial, err := newTrial(c, d.Name.Text)
		if err != nil {
			return nil, err
		}
		at := d.Name.At(0)
		list = append(list, &watchedRule{
			Observed:   &admin.Observed{Name: d.Name.Text, Action: d.Then.Text, Place: fmt.Sprintf("%s:%d", at.File, at.Line)},
			definition: d, trial: trial.Against(base),
		})
	}
	if len(list) == 0 {
		return nil, nil
	}
	if err := watchedSince(list, from); err != nil {
		return nil, err
	}
	err = from.mail(func(e *journal.Entry, r *policy.Recording) {
		base.Add(r)
		for _, w := range list {
			w.trial.Add(r)
			w.count(e, base.Last())
		}
	})
	for _, w := range list {
		w.Report = w.trial.Report()
		if w.Longer && !w.First.IsZero() && w.First.Before(w.Watched) {
			w.Watched = w.First
		}
		w.Warnings = w.warnings(now)
		var edit strings.Builder
		if err := w.edit(&edit); err != nil {
			w.EditProblem = err.Error()
		}
		w.Edit = edit.String()
	}
	return list, err
}

// watchedSince finds since when each rule has been observed as it is now: with its name, condition and action. Whoever
// changes one of them watches another rule.
func watchedSince(list []*watchedRule, from recorded) error {
	first := true
	return from.changes(func(c *journal.Change) {
		if len(c.Rules) == 0 {
			return
		}
		for _, w := range list {
			switch {
			case !slices.ContainsFunc(c.Rules, w.is):
				w.Watched, w.Longer = time.Time{}, false
			case w.Watched.IsZero():
				w.Watched, w.Longer = c.At, first
			}
		}
		first = false
	})
}

// is tells whether a rule that was in force is this one, as it is now.
func (w *watchedRule) is(r *journal.Rule) bool {
	return r.Mode == rules.Observe.String() && w.same(r)
}

func (w *watchedRule) same(r *journal.Rule) bool {
	return r.Name == w.Name && r.Action == w.Action && oneLine(r.When) == oneLine(w.definition.When.Text)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// count notes whether the rule matches, and when it did so first while it was watched.
func (w *watchedRule) count(e *journal.Entry, play *policy.Play) {
	if e.Kind == policy.TransactionRecord && play.Matches(w.Name) {
		w.Matched++
	}
	if !w.First.IsZero() {
		return
	}
	for i := range e.Matched {
		if m := &e.Matched[i]; m.Observed && m.Rule != nil && w.same(m.Rule) {
			w.First = e.Start
		}
	}
}

func writeWatched(w io.Writer, list []*watchedRule, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(append([]*watchedRule{}, list...))
	}
	out := bufio.NewWriter(w)
	if len(list) == 0 {
		fmt.Fprintln(out, "No rule has `mode: observe`.")
	}
	for i, rule := range list {
		if i > 0 {
			fmt.Fprintln(out)
		}
		rule.write(out, time.Now())
	}
	return out.Flush()
}

// examples is how many transactions of a group are shown.
const examples = 5

func (w *watchedRule) write(out io.Writer, now time.Time) {
	fmt.Fprintf(out, "%s (%s, at %s)\n", printable(w.Name), w.Action, w.Place)
	fmt.Fprintf(out, "  matches %s of %d; %s\n", counted(w.Matched, "transaction"), w.Report.Transactions, w.since(now))
	fmt.Fprintf(out, "  enforced: %s\n", examined(w.Report))
	for _, g := range w.Report.Changes {
		fmt.Fprintf(out, "  %s: %s, would be %s\n", counted(g.Count, "transaction"), fateText(g.Was, g.WasBy, g.WasCode), fateText(g.Is, g.IsBy, g.IsCode))
		for _, m := range g.Transactions[:min(examples, len(g.Transactions))] {
			fmt.Fprintln(out, "    "+mentionLine(m))
		}
	}
	for _, u := range w.Report.Unknown {
		fmt.Fprintf(out, "  %s cannot be told: %s was not recorded\n", counted(u.Count, "transaction"), u.Missing)
	}
}

func (w *watchedRule) since(now time.Time) string {
	text := "the journal does not know it as watched yet"
	if watched := w.Watched; !watched.IsZero() {
		text = fmt.Sprintf("watched since %s, %s", local(watched), spanText(now.Sub(watched)))
		if w.Longer {
			text += " or longer"
		}
	}
	if w.First.IsZero() {
		return text + "; no match has been recorded while it was watched"
	}
	return text + "; first match " + local(w.First)
}

func spanText(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	default:
		return counted(int(d/time.Minute), "minute")
	}
}
