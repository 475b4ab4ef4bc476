package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

func writeAdvice(w io.Writer, a *advice) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "%s and %s were looked at.\n", counted(a.Transactions, "transaction"), counted(a.Sessions, "session"))
	for i, r := range a.Recommendations {
		fmt.Fprintf(out, "\n%d. %s\n", i+1, printable(r.Text))
		for _, reason := range r.Reasons {
			fmt.Fprintf(out, "   %s\n", printable(reason))
		}
		for line := range strings.Lines(r.Change) {
			fmt.Fprintf(out, "     %s\n", printable(strings.TrimRight(line, "\n")))
		}
		r.writeTrial(out)
	}
	if len(a.Recommendations) == 0 {
		fmt.Fprintln(out, "\nNothing is recommended.")
	}
	if len(a.Fits) > 0 {
		fmt.Fprintln(out)
	}
	for _, text := range a.Fits {
		fmt.Fprintf(out, "- %s\n", printable(text))
	}
	return out.Flush()
}

func (r *recommendation) writeTrial(out io.Writer) {
	if r.Backtest == nil {
		fmt.Fprintf(out, "   not tried: %s\n", printable(r.Untried))
		return
	}
	fmt.Fprintf(out, "   tried on %s\n", examined(r.Backtest))
	for _, g := range r.Backtest.Changes {
		fmt.Fprintf(out, "     %s: %s, would be %s\n", counted(g.Count, "transaction"), fateText(g.Was, g.WasBy, g.WasCode), fateText(g.Is, g.IsBy, g.IsCode))
		for _, m := range g.Transactions[:min(2, len(g.Transactions))] {
			fmt.Fprintln(out, "       "+mentionLine(m))
		}
	}
}
