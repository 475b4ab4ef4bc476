package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commandsPage writes docs/commands.md: every command with its flags, as help tells them.
func commandsPage(w io.Writer, root *cobra.Command) {
	fmt.Fprintf(w, `# Commands

<!-- Made by `+"`make docs`"+` from the commands themselves. -->

What `+"`gatepost help COMMAND`"+` tells, and the manual pages of the package (`+"`man gatepost-why`"+`). Every command takes `+"`--help`"+`;
`+"`gatepost completion bash`"+` (fish, zsh) makes shells complete them.

| command | what it does |
|---|---|
`)
	visible(root, func(cmd *cobra.Command) {
		if cmd.Runnable() {
			fmt.Fprintf(w, "| [%s](#%s) | %s |\n", cmd.CommandPath(), anchor(cmd.CommandPath()), cell(cmd.Short))
		}
	})
	visible(root, func(cmd *cobra.Command) {
		if cmd.HasParent() {
			commandSection(w, cmd)
		}
	})
}

// visible goes through all commands that help shows, a command before those below it.
func visible(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, child := range cmd.Commands() {
		if child.IsAvailableCommand() && !child.Hidden && child.Name() != "completion" { // of cobra, and long
			visible(child, f)
		}
	}
}

func commandSection(w io.Writer, cmd *cobra.Command) {
	level := "##"
	if cmd.Parent().HasParent() {
		level = "###"
	}
	fmt.Fprintf(w, "\n%s %s\n", level, cmd.CommandPath())
	if cmd.Runnable() {
		fmt.Fprintf(w, "\n```\n%s\n```\n", cmd.UseLine())
	}
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	for _, paragraph := range strings.Split(strings.Trim(long, "\n"), "\n\n") {
		if strings.HasPrefix(paragraph, "  ") { // an example
			paragraph = "```\n" + paragraph + "\n```"
		} else if text, example, ok := strings.Cut(paragraph, "\n  "); ok {
			paragraph = text + "\n\n```\n  " + example + "\n```"
		}
		fmt.Fprintf(w, "\n%s\n", paragraph)
	}
	if cmd.Example != "" {
		fmt.Fprintf(w, "\n```\n%s\n```\n", strings.Trim(cmd.Example, "\n"))
	}
	flagTable(w, cmd)
}

func flagTable(w io.Writer, cmd *cobra.Command) {
	heading := "\n| option | meaning |\n|---|---|\n"
	cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		kind, usage := pflag.UnquoteUsage(f)
		short := ""
		if f.Shorthand != "" {
			short = "-" + f.Shorthand + ", "
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" {
			usage += " (default `" + f.DefValue + "`)"
		}
		fmt.Fprintf(w, "%s| `%s` | %s |\n", heading, strings.TrimSpace(short+"--"+f.Name+" "+kind), cell(usage))
		heading = ""
	})
}

// cell keeps text from ending the cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// anchor is where a heading can be linked to.
func anchor(heading string) string { return strings.ReplaceAll(heading, " ", "-") }
