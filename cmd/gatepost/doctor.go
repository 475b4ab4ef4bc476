package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/proxy/config"
	"gatepost/proxy/doctor"
)

func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at all that a configuration depends on: DNS, lists, backend, relaying, certificates, limits, folders, ports",
		Long: `Look at all that a configuration depends on, and say what is in order and what is not, with what was seen and what
to do about it. The backend is asked to relay for a stranger, up to RCPT: no message is sent, and nothing is changed.

It is best run as root, or as the user that gatepost runs as, before the first start and while gatepost runs.

Exit status: 0 if nothing is worse than a notice, 1 if there are warnings, 2 if there are errors or the configuration
cannot be used.`,
		Args: cobra.NoArgs,
	}
	file := configFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print the report as JSON")
	quiet := cmd.Flags().BoolP("quiet", "q", false, "leave out what is in order")
	patience := cmd.Flags().Duration("timeout", 40*time.Second, "how long all checks together may take")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, _, problems := config.Check(*file, all.Specs(), filtertest.NewEnv(filtertest.NewZone()))
		if c == nil {
			fmt.Fprintln(cmd.ErrOrStderr(), problems.Error())
			return exitStatus(2)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), *patience)
		defer cancel()
		report := doctor.Examine(ctx, doctor.Options{File: *file, Config: c, Warnings: problems})
		if err := printReport(cmd.OutOrStdout(), report, *asJSON, *quiet); err != nil {
			return err
		}
		switch report.Worst {
		case doctor.Error:
			return exitStatus(2)
		case doctor.Warning:
			return exitStatus(1)
		}
		return nil
	}
	return cmd
}

func printReport(w io.Writer, report doctor.Report, asJSON, quiet bool) error {
	if quiet {
		worth := []doctor.Finding{}
		for _, f := range report.Findings {
			if f.Severity > doctor.OK {
				worth = append(worth, f)
			}
		}
		report.Findings = worth
	}
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(report)
	}
	counts := map[doctor.Severity]int{}
	for _, f := range report.Findings {
		counts[f.Severity]++
		fmt.Fprintf(w, "%-7s  %s: %s: %s\n", f.Severity, f.Check, f.Subject, f.Message)
		for _, more := range []struct{ label, text string }{{"seen", f.Evidence}, {"do", f.Remedy}} {
			if more.text != "" && (f.Severity > doctor.OK || more.label == "seen") {
				fmt.Fprintf(w, "%9s%s: %s\n", "", more.label, more.text)
			}
		}
	}
	var sums []string
	for _, s := range []doctor.Severity{doctor.Error, doctor.Warning, doctor.Notice, doctor.OK} {
		if counts[s] > 0 {
			sums = append(sums, fmt.Sprintf("%s: %d", s, counts[s]))
		}
	}
	_, err := fmt.Fprintf(w, "\n%s\n", strings.Join(sums, ", "))
	return err
}
