package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatepost/policy/replay"
	"gatepost/rules"
)

func promoteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "promote RULE",
		Short: "Print the edit that enforces a rule with `mode: observe`",
		Long: `Print the edit, as a diff, that enforces a rule which only observes; nothing is changed. What enforcing it would have
done to the mail of the last days is told on standard error, and the exit status is 2 when something that was delivered
would have been refused.

  gatepost promote forged | patch /etc/gatepost/gatepost.yaml && gatepost check`,
		Args: cobra.ExactArgs(1),
	}
	file := configFlag(cmd)
	p := past{}
	p.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return promote(cmd, *file, &p, args[0]) }
	return cmd
}

func promote(cmd *cobra.Command, file string, p *past, name string) error {
	c, err := loaded(file)
	if err != nil {
		return err
	}
	list, err := watch(c, p.of(cmd, file), name, time.Now())
	if err != nil {
		return err
	}
	if len(list) == 0 {
		for i := range c.Rules {
			if c.Rules[i].Name.Text == name {
				return fmt.Errorf("the rule %s is enforced already", name)
			}
		}
		return fmt.Errorf("there is no rule %q in %s", name, file)
	}
	rule := list[0]
	rule.write(cmd.ErrOrStderr(), time.Now())
	for _, warning := range rule.Warnings {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning:", warning)
	}
	if err := rule.edit(cmd.OutOrStdout()); err != nil {
		return err
	}
	if rule.Report.Harmful() {
		return exitStatus(2)
	}
	return nil
}

// A sample below these says little.
const (
	fewMatches = 20
	shortWatch = 3 * 24 * time.Hour
)

// warnings say why the rule should perhaps not be enforced yet.
func (w *watchedRule) warnings(now time.Time) []string {
	var list []string
	for _, g := range w.Report.Changes {
		if g.Severity == replay.Lost {
			list = append(list, fmt.Sprintf("%s that had been delivered would have been %s", counted(g.Count, "transaction"), g.Is))
		}
	}
	if w.Matched < fewMatches {
		list = append(list, fmt.Sprintf("the sample is small: it matches %s, and fewer than %d say little", counted(w.Matched, "transaction"), fewMatches))
	}
	if w.Watched.IsZero() || now.Sub(w.Watched) < shortWatch {
		list = append(list, "it has been watched for less than 3 days: not all mail comes every day")
	}
	if w.Report.Untold > w.Report.Told {
		list = append(list, "of most of the mail it cannot be told what it would do")
	}
	return list
}

var (
	modeLine = regexp.MustCompile(`^\s+mode:\s*["']?observe["']?\s*(#.*)?$`)
	modeFlow = regexp.MustCompile(`,\s*mode:\s*["']?observe["']?`)
	modeWord = regexp.MustCompile(`(mode:\s*["']?)observe\b`)
)

// diffContext is how many lines around a change a diff shows.
const diffContext = 3

// edit prints the diff of the file in which the rule stands.
func (w *watchedRule) edit(out io.Writer) error {
	at := w.definition.Mode.At(0)
	text, err := os.ReadFile(at.File)
	if err != nil {
		return fmt.Errorf("the rule %s is at %s, which is no file that can be edited: write the rule into your configuration, without its mode", w.Name, w.Place)
	}
	lines := strings.SplitAfter(string(text), "\n")
	if at.Line < 1 || at.Line > len(lines) || !modeWord.MatchString(lines[at.Line-1]) {
		return fmt.Errorf("%s:%d does not hold `mode: observe` any more", at.File, at.Line)
	}
	return writeDiff(out, at, lines, enforcing(lines[at.Line-1]))
}

// enforcing is a line with `mode: observe` as it is to be; empty: without it.
func enforcing(line string) string {
	switch body := strings.TrimRight(line, "\r\n"); {
	case modeLine.MatchString(body):
		return ""
	case modeFlow.MatchString(line):
		return modeFlow.ReplaceAllLiteralString(line, "")
	default:
		return modeWord.ReplaceAllString(line, "${1}enforce")
	}
}

func writeDiff(out io.Writer, at rules.Pos, lines []string, now string) error {
	if last := len(lines) - 1; lines[last] == "" {
		lines = lines[:last]
	}
	i := at.Line - 1
	first, end := max(0, i-diffContext), min(len(lines), i+1+diffContext)
	size := end - first
	if now == "" {
		size--
	}
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %s\n@@ -%d,%d +%d,%d @@\n", at.File, at.File, first+1, end-first, first+1, size)
	for k := first; k < end; k++ {
		if k != i {
			b.WriteString(" " + whole(lines[k]))
			continue
		}
		b.WriteString("-" + whole(lines[k]))
		if now != "" {
			b.WriteString("+" + whole(now))
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// whole is a line of a diff: one without an end gets the note that patch knows.
func whole(line string) string {
	if strings.HasSuffix(line, "\n") {
		return line
	}
	return line + "\n\\ No newline at end of file\n"
}
