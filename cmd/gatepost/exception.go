package main

import (
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"gatepost/filters/exception"
	"gatepost/proxy/control"
)

func allowCommand() *cobra.Command {
	return exceptionCommand(exception.Allow, "Let a client, a sender or a recipient pass for a time")
}

func blockCommand() *cobra.Command {
	return exceptionCommand(exception.Block, "Refuse a client, a sender or a recipient for a time")
}

func exceptionCommand(action exception.Action, short string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   string(action),
		Short: short,
		Long: short + `. X is any of:

  192.0.2.7, 2001:db8::1               a client's address
  192.0.2.0/24                         a network of clients
  bob@example.net, example.net         a sender, all senders of a domain
  .example.net                         and all below it
  alice@example.org, example.org       a recipient, if the domain is one of ours (domains:)

No exception lifts a rate limit. One for good belongs into a list file or a rule.`,
	}
	file := cmd.PersistentFlags().StringP("config", "c", "/etc/gatepost/gatepost.yaml", "configuration `file`")
	cmd.AddCommand(exceptionAdd(action, file), exceptionList(action, file), exceptionRemove(action, file))
	return cmd
}

// kindFlag lets an operator say what the form of X would tell wrong.
func kindFlag(cmd *cobra.Command, r *exception.Request) {
	cmd.Flags().StringVar((*string)(&r.Kind), "kind", "", "what X is: client, sender or recipient (default: its form tells)")
}

func exceptionAdd(action exception.Action, file *string) *cobra.Command {
	request := exception.Request{Action: action}
	cmd := &cobra.Command{Use: "add X --for 30d", Short: "Make an exception, in the place of an older one about the same", Args: cobra.ExactArgs(1)}
	span := cmd.Flags().String("for", "", "how `long`, such as 30d")
	cmd.Flags().StringVar(&request.Why, "why", "", "the `reason`, for the list and the log")
	kindFlag(cmd, &request)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *span == "" {
			return errors.New("say how long with --for")
		}
		if err := request.For.UnmarshalText([]byte(*span)); err != nil {
			return fmt.Errorf("--for: %w", err)
		}
		request.Value = args[0]
		var added exceptionAdded
		if err := exceptionCall(cmd, *file, "exception.add", request, &added); err != nil {
			return err
		}
		e := added.Entry
		fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %s until %s.\n", e.Kind, printable(e.Value), e.Action, local(e.Expires))
		if added.Unread {
			fmt.Fprintf(cmd.ErrOrStderr(), "No rule that is in force reads exception.%s: this has no effect (`rules:` without `include: default`?)\n", e.Kind)
		}
		return nil
	}
	return cmd
}

func exceptionList(action exception.Action, file *string) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the exceptions, those that end first at the head", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			socket, err := socketOf(cmd, *file)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "KIND\tVALUE\tUNTIL\tADDED\tBY\tWHY")
			request := exception.Request{Action: action}
			err = control.Stream(cmd.Context(), socket, "exception.list", request, func(e exception.Entry) bool {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", e.Kind, printable(e.Value), local(e.Expires), local(e.Added), printable(e.By), printable(orDash(e.Why)))
				return true
			})
			if err != nil {
				return err
			}
			return w.Flush()
		},
	}
}

func exceptionRemove(action exception.Action, file *string) *cobra.Command {
	request := exception.Request{Action: action}
	cmd := &cobra.Command{Use: "remove X", Short: "End an exception before its time", Args: cobra.ExactArgs(1)}
	kindFlag(cmd, &request)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		request.Value = args[0]
		var n int
		if err := exceptionCall(cmd, *file, "exception.remove", request, &n); err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("there is no such exception; `gatepost %s list` shows those that there are", action)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is as all others again.\n", printable(request.Value))
		return nil
	}
	return cmd
}

func exceptionCall(cmd *cobra.Command, file, call string, arguments, value any) error {
	socket, err := socketOf(cmd, file)
	if err != nil {
		return err
	}
	return control.Call(cmd.Context(), socket, call, arguments, value)
}
