package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"gatepost/proxy/control"
	"gatepost/proxy/quarantine"
	"gatepost/proxy/wire"
)

func quarantineCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "quarantine",
		Short: "See, release and delete messages that rules have kept",
		Long: `See, release and delete messages that rules have kept (then: quarantine, or keep: copy). The ID is that of the
transaction: it stands in the log, in the journal, and in the reply that the sender got.`,
	}
	file := cmd.PersistentFlags().StringP("config", "c", "/etc/gatepost/gatepost.yaml", "configuration `file`")
	list := &cobra.Command{Use: "list", Short: "List what is kept, the newest first", Args: cobra.NoArgs}
	limit := list.Flags().Int("limit", 100, "how `many` at most; 0: all")
	list.RunE = func(cmd *cobra.Command, _ []string) error { return quarantineList(cmd, *file, *limit) }
	cmd.AddCommand(
		list,
		&cobra.Command{
			Use:   "show ID",
			Short: "Show what is known of a message, and its header",
			Args:  cobra.ExactArgs(1),
			RunE:  func(cmd *cobra.Command, args []string) error { return quarantineShow(cmd, *file, args[0]) },
		},
		&cobra.Command{
			Use:   "release ID",
			Short: "Give a message to the backend, with its own envelope, and remove it when the backend has taken it",
			Long: `Give a message to the backend, with its own envelope, and remove it when the backend has taken it. Rules are not asked
again. Recipients that the backend refuses stay in quarantine; the exit status is 2 then.`,
			Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return quarantineRelease(cmd, *file, args[0]) },
		},
		&cobra.Command{
			Use:   "delete ID",
			Short: "Remove a message for good",
			Args:  cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				if err := quarantineCall(cmd, *file, "quarantine.delete", quarantineRequest{args[0]}, nil); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is deleted.\n", printable(args[0]))
				return nil
			},
		},
	)
	return cmd
}

func quarantineCall(cmd *cobra.Command, file, call string, request, value any) error {
	socket, err := socketOf(cmd, file)
	if err != nil {
		return err
	}
	return control.Call(cmd.Context(), socket, call, request, value)
}

func quarantineList(cmd *cobra.Command, file string, limit int) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tKEPT\tNOT REMOVED BEFORE\tRULE\tCLIENT\tSENDER\tFOR\tSUBJECT")
	query := quarantine.Query{Limit: quarantine.MaxPage}
	var page quarantine.Page
	for shown := 0; ; {
		if limit > 0 {
			query.Limit = min(quarantine.MaxPage, limit-shown)
		}
		page = quarantine.Page{}
		if err := quarantineCall(cmd, file, "quarantine.list", query, &page); err != nil {
			return err
		}
		for _, s := range page.Items {
			fmt.Fprintln(w, listLine(s))
		}
		shown += len(page.Items)
		if query.Before = page.Next; page.Next == "" || limit > 0 && shown >= limit {
			break
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	percent := page.Bytes * 100 / max(page.Limit, 1)
	fmt.Fprintf(cmd.OutOrStdout(), "%d in quarantine, %d bytes, %d %% of quarantine.size\n", page.Total, page.Bytes, percent)
	if page.Expiring > 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "%d will be removed soon (quarantine.keep); release what you want to keep\n", page.Expiring)
	}
	return nil
}

func listLine(s quarantine.Summary) string {
	if s.Problem != "" {
		return fmt.Sprintf("%s\t%s\t%s\t%s", s.ID, local(s.Kept), local(s.Expires), printable(s.Problem))
	}
	rule, expires := s.Rule, local(s.Expires)
	if s.Copy {
		rule += " (copy)"
	}
	if s.Expiring {
		expires += " soon"
	}
	recipients := strings.Join(s.Recipients, " ")
	if more := s.Waiting - len(s.Recipients); more > 0 {
		recipients += fmt.Sprintf(" and %d more", more)
	}
	return strings.Join([]string{s.ID, local(s.Kept), expires, rule, s.Client, printable("<" + s.ReversePath + ">"),
		printable(recipients), printable(s.Subject)}, "\t")
}

func quarantineShow(cmd *cobra.Command, file, id string) error {
	var d quarantine.Detail
	if err := quarantineCall(cmd, file, "quarantine.show", quarantineRequest{id}, &d); err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	what := "kept in place of a delivery"
	if d.Copy {
		what = "a copy of what was refused"
	}
	fmt.Fprintf(w, "%s: %s\n", d.ID, what)
	for _, line := range []struct{ name, value string }{
		{"kept", local(d.Kept)}, {"stays", "until " + local(d.Expires) + " at least"},
		{"rule", fmt.Sprintf("%s at %s:%d", d.Rule.Name, d.Rule.File, d.Rule.Line)}, {"reply", d.Reply},
		{"client", strings.TrimSpace(d.Client.Address.Addr().String() + " " + d.Client.Name)}, {"helo", d.Client.Helo}, {"user", d.Client.User},
		{"from", "<" + d.ReversePath + ">" + string(wire.AppendParams(nil, d.Params))},
	} {
		if line.value != "" {
			fmt.Fprintf(w, "  %-8s  %s\n", line.name, printable(line.value))
		}
	}
	for _, r := range d.Recipients {
		text := "<" + r.Address + ">" + string(wire.AppendParams(nil, r.Params))
		if !r.Released.IsZero() {
			text += " released " + local(r.Released)
		}
		if r.Reply != "" {
			text += ": " + r.Reply
		}
		fmt.Fprintf(w, "  %-8s  %s\n", "for", printable(text))
	}
	fmt.Fprintf(w, "  %-8s  %d bytes, %s\n", "message", d.Size, d.File)
	fmt.Fprintf(w, "  %-8s  %s\n", "sha256", d.Digest)
	writeKeptFacts(w, d.Facts)
	fmt.Fprintln(w)
	for line := range strings.Lines(d.Header) {
		fmt.Fprintln(w, printable(strings.TrimRight(line, "\r\n")))
	}
	return nil
}

func writeKeptFacts(w io.Writer, facts map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(facts)) {
		value := facts[name]
		if list, ok := value.([]any); ok { // as JSON has it
			texts := make([]string, len(list))
			for i := range list {
				texts[i] = fmt.Sprint(list[i])
			}
			value = texts
		}
		fmt.Fprintf(w, "  %s = %s\n", name, printable(valueText(value)))
	}
}

func quarantineRelease(cmd *cobra.Command, file, id string) error {
	var o quarantineReleased
	if err := quarantineCall(cmd, file, "quarantine.release", quarantineRequest{id}, &o); err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	for _, r := range o.Recipients {
		what := "not delivered"
		if r.Delivered {
			what = "delivered"
		}
		fmt.Fprintf(w, "%s <%s>: %s\n", what, printable(r.Address), printable(r.Reply))
	}
	if o.Reply != "" {
		fmt.Fprintf(w, "The backend %s said: %s\n", printable(o.Backend), printable(o.Reply))
	}
	switch {
	case o.Problem != "":
		return fmt.Errorf("%s", printable(o.Problem))
	case o.Left > 0:
		fmt.Fprintf(w, "%s stays in quarantine for %d.\n", o.ID, o.Left)
		return exitStatus(2)
	}
	fmt.Fprintf(w, "%s is released.\n", o.ID)
	return nil
}
