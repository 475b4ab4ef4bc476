package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"gatepost/policy"
	"gatepost/policy/replay"
	"gatepost/proxy/journal"
)

func backtestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backtest -c NEW.yaml",
		Short: "Tell what a changed configuration would have done with the mail of the last days",
		Long: `Run the rules of a configuration again over what the journal has recorded, and tell what would come out differently: the
worst first. The facts are those of then; greylisting and rate limits are simulated where they would have gone otherwise.

  gatepost backtest -c new.yaml --since 7d
  gatepost backtest -c new.yaml --json | jq '.changes[0]'

The exit status is 2 when something that was delivered would be refused or discarded. docs/backtest.md says more.`,
		Args: cobra.NoArgs,
	}
	file := configFlag(cmd)
	p := past{}
	p.flags(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print the whole report as an object of JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loaded(*file)
		if err != nil {
			return err
		}
		trial, err := newTrial(c, "")
		if err != nil {
			return err
		}
		if err := p.each(cmd, *file, func(_ *journal.Entry, r *policy.Recording) { trial.Add(r) }); err != nil {
			return err
		}
		report := trial.Report()
		if err := writeReport(cmd.OutOrStdout(), report, *asJSON); err != nil {
			return err
		}
		if report.Harmful() {
			return exitStatus(2)
		}
		return nil
	}
	return cmd
}

func writeReport(w io.Writer, r *replay.Report, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	out := bufio.NewWriter(w)
	fmt.Fprintln(out, examined(r))
	if r.Told+r.Untold > 0 {
		writeRuleCounts(out, r)
		writeChanges(out, r)
		writeUnknown(out, r)
	}
	return out.Flush()
}

// examined says how much was looked at, and what came of it.
func examined(r *replay.Report) string {
	if r.Sessions+r.Transactions == 0 {
		return "The journal has nothing of that time."
	}
	text := fmt.Sprintf("%s and %s, %s to %s: ", counted(r.Transactions, "transaction"), counted(r.Sessions, "session"), local(r.From), local(r.To))
	if r.Differ == 0 {
		text += "nothing would come out differently"
	} else {
		text += fmt.Sprintf("%d would come out differently", r.Differ)
	}
	if r.Untold > 0 {
		text += fmt.Sprintf(", %d cannot be told", r.Untold)
	}
	return text + "."
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// writeRuleCounts prints how many recipients each rule decided about, then and now.
func writeRuleCounts(out io.Writer, r *replay.Report) {
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "rule\toutcome\twas\twould be\t")
	for _, c := range r.Rules {
		mark := ""
		if c.Was != c.Is {
			mark = fmt.Sprintf("%+d", c.Is-c.Was)
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\n", orDash(printable(c.Rule)), c.Fate, c.Was, c.Is, mark)
	}
	table.Flush()
}

func writeChanges(out io.Writer, r *replay.Report) {
	for _, g := range r.Changes {
		fmt.Fprintf(out, "\n%s: %s, would be %s\n", counted(g.Count, "transaction"), fateText(g.Was, g.WasBy, g.WasCode), fateText(g.Is, g.IsBy, g.IsCode))
		writeMentions(out, g.Transactions, g.Count)
	}
}

func fateText(f replay.Fate, rule string, code int) string {
	text := f.String()
	switch {
	case rule != "":
		text += fmt.Sprintf(" (%d, rule %s)", code, printable(rule))
	case code != 0:
		text += fmt.Sprintf(" (%d)", code)
	}
	return text
}

func writeUnknown(out io.Writer, r *replay.Report) {
	for _, u := range r.Unknown {
		fmt.Fprintf(out, "\n%s: %s, now it cannot be told: %s was not recorded\n", counted(u.Count, "transaction"), fateText(u.Was, u.WasBy, u.WasCode), u.Missing)
		writeMentions(out, u.Transactions, u.Count)
	}
}

func writeMentions(out io.Writer, list []replay.Mention, all int) {
	for _, m := range list {
		fmt.Fprintln(out, "  "+mentionLine(m))
	}
	if more := all - len(list); more > 0 {
		fmt.Fprintf(out, "  and %d more\n", more)
	}
}

// mentionLine is a transaction on one line.
func mentionLine(m replay.Mention) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %-16s %s", local(m.Time), m.ID, m.Client)
	if m.Mail {
		fmt.Fprintf(&b, " <%s>", m.From)
	}
	if len(m.Recipients) > 0 {
		fmt.Fprintf(&b, " to <%s>", strings.Join(m.Recipients, "> <"))
	}
	return printable(b.String())
}
