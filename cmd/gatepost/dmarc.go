package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"gatepost/filters/dmarc/report"
	"gatepost/proxy/control"
)

// dmarcRequest is the argument of the call "dmarc.reports".
type dmarcRequest struct {
	Day    string `json:"day"` // as 2006-01-02
	Domain string `json:"domain,omitempty"`
}

// dmarcItem is a piece of its answer: a report without its rows, or some rows of the report before.
type dmarcItem struct {
	Report *report.Report `json:"report,omitempty"`
	Rows   []report.Row   `json:"rows,omitempty"`
}

// pipeLimit is how long the operator's program may take for one message.
const pipeLimit = 2 * time.Minute

// reporting is what `gatepost dmarc report` is asked for.
type reporting struct {
	day, domain string
	out         string // folder for files
	pipe        string // command for messages
	now         time.Time
	log         io.Writer
	failed      bool
}

func dmarcCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dmarc",
		Short: "Write the DMARC aggregate reports that a running proxy has collected (filters.dmarc.reports)",
	}
	file := cmd.PersistentFlags().StringP("config", "c", "/etc/gatepost/gatepost.yaml", "configuration `file`")
	var r reporting
	write := &cobra.Command{
		Use:   "report [--day 2006-01-02] [--domain DOMAIN] [--out DIR] [--pipe COMMAND]",
		Short: "Write the reports about a day (RFC 9990), one for each domain",
		Long: `Write the reports about a day (RFC 9990), one for each domain that mail was from and that asks for reports. Nothing is
sent by the proxy itself:

  --out DIR                the files, DIR/mx.example.org!example.com!1767571200!1767657599.xml.gz
  --pipe "sendmail -t"     the messages that carry them, one run of the command for each address

Without both, the messages are printed one after the other in mbox form. A run from cron is all it takes:

  10 2 * * *  gatepost dmarc report --pipe "sendmail -t -i -f dmarc@example.org"

A domain's address at another organization gets a report only if that organization says in the DNS that it wants it. The
same day gives the same reports again, by name and Report-ID, so that a run can be repeated.`,
		Args: cobra.NoArgs,
	}
	flags := write.Flags()
	flags.StringVar(&r.day, "day", "", "the `day` in UTC; yesterday if it is not given")
	flags.StringVar(&r.domain, "domain", "", "only the report for this `domain`")
	flags.StringVar(&r.out, "out", "", "`folder` to write the compressed XML to")
	flags.StringVar(&r.pipe, "pipe", "", "shell `command` that takes each message on standard input")
	write.RunE = func(cmd *cobra.Command, _ []string) error {
		socket, err := socketOf(cmd, *file)
		if err != nil {
			return err
		}
		r.now, r.log = time.Now(), cmd.ErrOrStderr()
		return r.run(cmd.Context(), socket, cmd.OutOrStdout())
	}
	cmd.AddCommand(write)
	return cmd
}

func (r *reporting) run(ctx context.Context, socket string, w io.Writer) error {
	if r.day == "" {
		r.day = r.now.UTC().AddDate(0, 0, -1).Format(time.DateOnly)
	}
	day, err := time.Parse(time.DateOnly, r.day)
	if err != nil {
		return fmt.Errorf("--day: %q is not a day such as 2026-01-05", r.day)
	}
	if r.pipe != "" && r.now.Before(day.AddDate(0, 0, 1)) {
		return fmt.Errorf("--day: %s is not over (days are in UTC): a report is sent once", r.day)
	}
	found := false
	var current *report.Report
	finish := func() error {
		if current == nil {
			return nil
		}
		found = true
		return r.write(ctx, current, w)
	}
	var problem error
	err = control.Stream(ctx, socket, "dmarc.reports", dmarcRequest{r.day, r.domain}, func(item dmarcItem) bool {
		if item.Report != nil {
			if problem = finish(); problem != nil {
				return false
			}
			current = item.Report
		}
		if current != nil {
			current.Rows = append(current.Rows, item.Rows...)
		}
		return true
	})
	if err = errors.Join(err, problem); err != nil {
		return err
	}
	if err := finish(); err != nil {
		return err
	}
	if !found {
		fmt.Fprintf(r.log, "Nobody who wants reports had mail on %s.\n", r.day)
	}
	if r.failed {
		return exitStatus(1)
	}
	return nil
}

// write writes one domain's report in all the ways that were asked for.
func (r *reporting) write(ctx context.Context, rep *report.Report, w io.Writer) error {
	if r.out != "" {
		data, err := rep.Compressed()
		if err != nil {
			return err
		}
		path := filepath.Join(r.out, rep.FileName())
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
		fmt.Fprintf(r.log, "%s: written to %s\n", printable(rep.Domain), path)
	}
	if r.out != "" && r.pipe == "" {
		return nil
	}
	for _, d := range rep.Destinations {
		if d.Problem != "" {
			fmt.Fprintf(r.log, "%s: no report to %s: %s\n", printable(rep.Domain), printable(d.URI), printable(d.Problem))
			continue
		}
		message, err := rep.Message(d.Address, r.now)
		if err != nil {
			return err
		}
		if d.Limit > 0 && int64(len(message)) > d.Limit {
			fmt.Fprintf(r.log, "%s: no report to %s: it takes at most %d bytes, and the message has %d\n", printable(rep.Domain), d.Address, d.Limit, len(message))
			continue
		}
		if err := r.hand(ctx, message, w); err != nil {
			r.failed = true
			fmt.Fprintf(r.log, "%s: report to %s: %v\n", printable(rep.Domain), d.Address, err)
			continue
		}
		fmt.Fprintf(r.log, "%s: report to %s, %d rows\n", printable(rep.Domain), d.Address, len(rep.Rows))
	}
	return nil
}

// hand prints a message, or gives it to the operator's program. The command line is the operator's own; nothing from a
// report gets into it.
func (r *reporting) hand(ctx context.Context, message []byte, w io.Writer) error {
	if r.pipe == "" {
		_, err := fmt.Fprintf(w, "From gatepost %s\n%s\n", r.now.UTC().Format(time.ANSIC), message)
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pipeLimit)
	defer cancel()
	program := exec.CommandContext(ctx, "/bin/sh", "-c", r.pipe)
	program.Stdin = bytes.NewReader(message)
	program.WaitDelay = time.Second
	if output, err := program.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", r.pipe, err, printable(string(output[:min(len(output), 500)])))
	}
	return nil
}
