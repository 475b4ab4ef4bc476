package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/proxy/config"
	"gatepost/rules"
)

func checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration without using the network, and print all that is wrong with it",
		Args:  cobra.NoArgs,
	}
	file := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, engine, problems := config.Check(*file, all.Specs(), filtertest.NewEnv(filtertest.NewZone()))
		if c != nil {
			problems = append(problems, c.CheckFiles(time.Now())...)
		}
		for _, p := range problems {
			fmt.Fprintln(cmd.OutOrStdout(), p)
		}
		if problems.Failed() {
			fmt.Fprintf(cmd.OutOrStdout(), "%s: not usable\n", *file)
			return exitStatus(1)
		}
		summarise(cmd.OutOrStdout(), *file, c, engine)
		return nil
	}
	return cmd
}

// summarise prints what a good configuration amounts to: where mail comes in, where it goes, and the rules in the order
// in which they decide.
func summarise(w io.Writer, file string, c *config.Config, engine *policy.Engine) {
	fmt.Fprintf(w, "%s: good\n\n", file)
	for _, l := range c.Listen {
		use := ""
		if l.Submission {
			use = " (submission)"
		}
		fmt.Fprintf(w, "  listen   %s%s\n", l.Address, use)
	}
	for _, l := range c.Milter {
		fmt.Fprintf(w, "  milter   %s\n", l.Address)
	}
	for _, l := range c.PolicyServer {
		fmt.Fprintf(w, "  policy   %s\n", l.Address)
	}
	for _, address := range c.Backend.Address {
		fmt.Fprintf(w, "  backend  %s (client address by %s)\n", address, c.Backend.ClientAddress)
	}
	for _, domain := range c.Domains {
		fmt.Fprintf(w, "  domain   %s\n", domain)
	}
	set := engine.Rules().Rules()
	if len(set) == 0 {
		fmt.Fprintln(w, "\n  no rules: everything goes to the backend")
		return
	}
	fmt.Fprintln(w, "\n  rules, in the order in which they decide:")
	for _, r := range set {
		mode := ""
		if r.Mode == rules.Observe {
			mode = "  (observed only)"
		}
		fmt.Fprintf(w, "  %-8s %-20s %-9s %s:%d%s\n", filters.Stage(r.Stage), r.Name, r.Action, r.Pos.File, r.Pos.Line, mode)
	}
}
