package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gatepost/filters/greylist"
	"gatepost/proxy/control"
)

func greylistCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "greylist",
		Short: "See and change what a running proxy remembers of senders",
		Long: `See and change what a running proxy remembers of senders. QUERY is any of, or two together:

  192.0.2.7, 2001:db8::1      the client's network
  192.0.2.0/24                all networks in it
  alice@example.org, <>       a sender, and the domain that vouches for it
  example.org                 a domain and its senders`,
	}
	file := cmd.PersistentFlags().StringP("config", "c", "/etc/gatepost/gatepost.yaml", "configuration `file`")
	cmd.AddCommand(
		&cobra.Command{
			Use:   "list [QUERY]",
			Short: "List what is remembered, a line a mark",
			RunE:  func(cmd *cobra.Command, args []string) error { return greylistList(cmd, *file, args) },
		},
		&cobra.Command{
			Use:   "show QUERY",
			Short: "Show everything about some marks",
			Args:  cobra.MinimumNArgs(1),
			RunE:  func(cmd *cobra.Command, args []string) error { return greylistShow(cmd, *file, args) },
		},
		&cobra.Command{
			Use:   "pass QUERY",
			Short: "Let a client's network, a sender or a domain pass from now on",
			Args:  cobra.MinimumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				var key string
				if err := greylistChange(cmd, *file, "greylist.pass", args, &key); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s passes.\n", strings.TrimPrefix(key, "o:"))
				return nil
			},
		},
		&cobra.Command{
			Use:   "forget QUERY",
			Short: "Forget marks: their senders are new again",
			Args:  cobra.MinimumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				var n int
				if err := greylistChange(cmd, *file, "greylist.forget", args, &n); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "Marks forgotten: %d\n", n)
				return nil
			},
		},
		greylistImportCommand(file),
		greylistExportCommand(file),
	)
	return cmd
}

func greylistChange(cmd *cobra.Command, file, call string, args []string, value any) error {
	socket, err := socketOf(cmd, file)
	if err != nil {
		return err
	}
	return control.Call(cmd.Context(), socket, call, greylistRequest{Query: strings.Join(args, " ")}, value)
}

// greylistEach calls f for every mark of the query.
func greylistEach(cmd *cobra.Command, file string, args []string, f func(greylist.Entry)) error {
	socket, err := socketOf(cmd, file)
	if err != nil {
		return err
	}
	return control.Stream(cmd.Context(), socket, "greylist.list", greylistRequest{Query: strings.Join(args, " ")}, func(e greylist.Entry) bool {
		f(e)
		return true
	})
}

func greylistList(cmd *cobra.Command, file string, args []string) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "STATE\tNETWORK\tSENDER OR DOMAIN\tFIRST\tLAST\tATTEMPTS")
	err := greylistEach(cmd, file, args, func(e greylist.Entry) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\n", e.State, orDash(e.Network), printable(senderOf(e)), local(e.First), local(e.Last), e.Attempts)
	})
	if err != nil {
		return err
	}
	return w.Flush()
}

func greylistShow(cmd *cobra.Command, file string, args []string) error {
	w := cmd.OutOrStdout()
	found := 0
	err := greylistEach(cmd, file, args, func(e greylist.Entry) {
		found++
		fmt.Fprintf(w, "%s\n  state     %s\n  first     %s\n  last      %s\n", printable(e.Key), e.State, local(e.First), local(e.Last))
		if !e.Passed.IsZero() {
			fmt.Fprintf(w, "  passed    %s\n", local(e.Passed))
		}
		fmt.Fprintf(w, "  expires   %s\n  attempts  %d\n", local(e.Expires), e.Attempts)
	})
	if err == nil && found == 0 {
		fmt.Fprintln(w, "Nothing is remembered of that.")
	}
	return err
}

func senderOf(e greylist.Entry) string {
	switch {
	case e.Sender != "":
		return e.Sender
	case e.Domain != "":
		return e.Domain
	case e.Network != "" && strings.HasPrefix(e.Key, "n:"):
		return "<>"
	}
	return "-"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func local(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
