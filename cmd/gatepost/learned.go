package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"gatepost/filters"
	"gatepost/proxy/control"
)

// learnedCommand is the command of a memory. Its name is the memory's.
func learnedCommand(name, short, queries string) *cobra.Command {
	cmd := &cobra.Command{Use: name, Short: short, Long: short + ".\n\nQUERY is " + queries + "."}
	file := cmd.PersistentFlags().StringP("config", "c", "/etc/gatepost/gatepost.yaml", "configuration `file`")
	cmd.AddCommand(
		&cobra.Command{
			Use: "list [QUERY]", Short: "List what is known, a line each",
			RunE: func(cmd *cobra.Command, args []string) error { return learnedList(cmd, *file, name, args) },
		},
		&cobra.Command{
			Use: "show QUERY", Short: "Show everything that is known of some", Args: cobra.MinimumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return learnedShow(cmd, *file, name, args) },
		},
		&cobra.Command{
			Use: "forget QUERY", Short: "Forget them: they are new again", Args: cobra.MinimumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				socket, err := socketOf(cmd, *file)
				if err != nil {
					return err
				}
				var n int
				if err := control.Call(cmd.Context(), socket, "learned.forget", learnedRequest{name, strings.Join(args, " ")}, &n); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "Forgotten: %d\n", n)
				return nil
			},
		},
	)
	return cmd
}

// learnedKind asks what the columns of a memory are, and where its process is.
func learnedKind(cmd *cobra.Command, file, name string) (kind filters.MemoryKind, socket string, err error) {
	if socket, err = socketOf(cmd, file); err == nil {
		err = control.Call(cmd.Context(), socket, "learned.kind", learnedRequest{Memory: name}, &kind)
	}
	return kind, socket, err
}

func learnedList(cmd *cobra.Command, file, name string, args []string) error {
	kind, socket, err := learnedKind(cmd, file, name)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	heads := slices.Concat([]string{kind.What}, kind.Columns, []string{"seen", "first", "last", "expires"})
	fmt.Fprintln(w, strings.ToUpper(strings.Join(heads, "\t")))
	request := learnedRequest{name, strings.Join(args, " ")}
	err = control.Stream(cmd.Context(), socket, "learned.list", request, func(l filters.Learned) bool {
		cells := []string{printable(l.What)}
		for _, value := range l.Values {
			cells = append(cells, printable(orDash(value)))
		}
		cells = append(cells, fmt.Sprint(l.Count), local(l.First), local(l.Last), local(l.Expires))
		fmt.Fprintln(w, strings.Join(cells, "\t"))
		return true
	})
	if err != nil {
		return err
	}
	return w.Flush()
}

func learnedShow(cmd *cobra.Command, file, name string, args []string) error {
	kind, socket, err := learnedKind(cmd, file, name)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	found := 0
	err = control.Stream(cmd.Context(), socket, "learned.list", learnedRequest{name, strings.Join(args, " ")}, func(l filters.Learned) bool {
		found++
		fmt.Fprintln(w, printable(l.What))
		for i, value := range l.Values[:min(len(l.Values), len(kind.Columns))] {
			fmt.Fprintf(w, "  %-8s  %s\n", kind.Columns[i], printable(orDash(value)))
		}
		fmt.Fprintf(w, "  seen      %d\n  first     %s\n  last      %s\n  expires   %s\n", l.Count, local(l.First), local(l.Last), local(l.Expires))
		return true
	})
	if err == nil && found == 0 {
		fmt.Fprintln(w, "Nothing is known of that.")
	}
	return err
}
