package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manCommand writes the manual pages, for packages. cobra's own generator goes by way of Markdown and brings a converter
// along; what our commands have to say needs a dozen requests of man(7).
func manCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "man FOLDER",
		Short:  "Write a manual page for each command into a folder",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return manPages(cmd.Root(), args[0])
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "page",
		Short: "Print the page of the manual that lists all commands",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { commandsPage(cmd.OutOrStdout(), cmd.Root()) },
	})
	return cmd
}

func manPages(cmd *cobra.Command, folder string) error {
	if cmd.Hidden || !cmd.IsAvailableCommand() && cmd.HasParent() {
		return nil
	}
	var page bytes.Buffer
	manPage(&page, cmd)
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
	if err := os.WriteFile(filepath.Join(folder, name), page.Bytes(), 0o644); err != nil {
		return err
	}
	for _, child := range cmd.Commands() {
		if err := manPages(child, folder); err != nil {
			return err
		}
	}
	return nil
}

// manPage writes man(7). There is no date in it: the same source makes the same bytes.
func manPage(w io.Writer, cmd *cobra.Command) {
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	fmt.Fprintf(w, ".TH %s 1 \"\" \"gatepost %s\" \"Gatepost\"\n", quoteRoff(strings.ToUpper(name)), version)
	fmt.Fprintf(w, ".SH NAME\n%s \\- %s\n", quoteRoff(name), quoteRoff(cmd.Short))
	fmt.Fprintf(w, ".SH SYNOPSIS\n.B %s\n", quoteRoff(cmd.UseLine()))
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	fmt.Fprintf(w, ".SH DESCRIPTION\n")
	for _, paragraph := range strings.Split(long, "\n\n") {
		if strings.HasPrefix(paragraph, "  ") { // an example
			fmt.Fprintf(w, ".PP\n.nf\n%s\n.fi\n", quoteRoff(paragraph))
			continue
		}
		fmt.Fprintf(w, ".PP\n%s\n", quoteRoff(paragraph))
	}
	if cmd.Example != "" {
		fmt.Fprintf(w, ".SH EXAMPLES\n.nf\n%s\n.fi\n", quoteRoff(cmd.Example))
	}
	manFlags(w, cmd)
	manSeeAlso(w, cmd)
}

func manFlags(w io.Writer, cmd *cobra.Command) {
	heading := ".SH OPTIONS\n"
	cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		kind, usage := pflag.UnquoteUsage(f)
		short := ""
		if f.Shorthand != "" {
			short = "-" + f.Shorthand + ", "
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(w, "%s.TP\n.B %s\n%s\n", heading, quoteRoff(strings.TrimSpace(short+"--"+f.Name+" "+kind)), quoteRoff(usage))
		heading = ""
	})
}

func manSeeAlso(w io.Writer, cmd *cobra.Command) {
	var pages []string
	if cmd.HasParent() {
		pages = append(pages, cmd.Parent().CommandPath())
	}
	for _, child := range cmd.Commands() {
		if child.IsAvailableCommand() && !child.Hidden {
			pages = append(pages, child.CommandPath())
		}
	}
	for i, p := range pages {
		pages[i] = ".BR " + quoteRoff(strings.ReplaceAll(p, " ", "-")) + " (1)"
	}
	if len(pages) > 0 {
		fmt.Fprintf(w, ".SH SEE ALSO\n%s\n", strings.Join(pages, ",\n"))
	}
}

// quoteRoff keeps text from becoming requests: a backslash, a hyphen that shall stay one, and a dot or apostrophe at the
// start of a line.
func quoteRoff(text string) string {
	lines := strings.Split(strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
