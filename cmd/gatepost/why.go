package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatepost/filters/all"
	"gatepost/filters/greylist"
	"gatepost/proxy/config"
	"gatepost/proxy/journal"
	"gatepost/rules"
)

const (
	maxPasted   = 1 << 20 // bytes of a text on standard input
	fullStories = 3
	maxFound    = 100
)

func whyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "why ID|ADDRESS|IP|TEXT|-",
		Short: "Tell why a message or a client was refused, or accepted: what was known, which rule decided, what was sent",
		Long: `Tell the story of a decision in the order in which it happened: what was known and when, which filters failed, which rule
at which place of which file decided, what was sent, and what would have had to be different.

  gatepost why 0PKT3S9X8M2QV.1           the id in our replies and in the log; without .1, all of the session
  gatepost why "550 5.7.1 … (id 0PKT…)"  any text with an id in it; "-" reads one from standard input: a bounce
  gatepost why joe@example.org           a sender or a recipient
  gatepost why 192.0.2.7                 a client

It reads the journal in its folder, whether a proxy is running or not.`,
		Args: cobra.MinimumNArgs(1),
	}
	file := configFlag(cmd)
	since := cmd.Flags().String("since", "", "look no further back: `time` or span such as 2d")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		text, err := pasted(cmd, args)
		if err != nil {
			return err
		}
		from, err := pointInTime(*since, time.Now())
		if err != nil {
			return fmt.Errorf("--since: %w", err)
		}
		return why(cmd, *file, text, from)
	}
	return cmd
}

func pasted(cmd *cobra.Command, args []string) (string, error) {
	if len(args) == 1 && args[0] == "-" {
		text, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxPasted))
		return string(text), err
	}
	return strings.Join(args, " "), nil
}

func why(cmd *cobra.Command, file, text string, since time.Time) error {
	wanted, err := parseSubject(text)
	if err != nil {
		return err
	}
	reader, section, err := openJournal(cmd, file)
	if err != nil {
		return err
	}
	defer reader.Close()
	if wanted.address != "" {
		if wanted.address, err = journal.Disguise(section, wanted.address); err != nil {
			return err
		}
	}
	found, err := wanted.entries(cmd.Context(), reader, journal.Query{Since: since}, maxFound)
	if err != nil {
		return err
	}
	changes, err := changesAbout(cmd.Context(), reader, wanted, found[:min(len(found), fullStories)])
	if err != nil {
		return err
	}
	if len(found) == 0 && len(changes) == 0 {
		return notFound(wanted, section)
	}
	return tellAll(cmd.OutOrStdout(), found, changes, file)
}

// notFound says what may have become of an entry that is not there.
func notFound(s subject, c journal.Config) error {
	if len(s.ids) > 0 {
		if at, ok := journal.IDTime(s.ids[0]); ok {
			return fmt.Errorf("the journal has nothing on %s; that session began at %s, entries are kept for %s and an entry is written when a transaction has ended",
				strings.Join(s.ids, ", "), local(at), c.Keep)
		}
	}
	return fmt.Errorf("the journal in %s has nothing on that (entries are kept for %s)", c.Path, c.Keep)
}

// tellAll tells the latest in full and names the others, and what was changed about any of it.
func tellAll(w io.Writer, found, changes []*journal.Entry, file string) error {
	schema, err := journal.SearchSchema(config.Instances(file, all.Specs()))
	if err != nil {
		return err
	}
	out := &plainStory{w: w}
	teller := newTeller(out, schema, config.Lists{Folder: config.ListsFolder(file, all.Specs())})
	if c, _ := config.Load(file, all.Specs()); c != nil {
		teller.greylist, _ = c.Filters[greylist.Spec.Name].Settings.(*greylist.Config)
	}
	for i, e := range found[:min(len(found), fullStories)] {
		if i > 0 {
			fmt.Fprintln(w)
		}
		teller.tell(e)
	}
	if rest := found[min(len(found), fullStories):]; len(rest) > 0 {
		fmt.Fprintf(w, "\nEarlier (`gatepost why ID` tells more):\n")
		for _, e := range rest {
			fmt.Fprintln(w, entryLine(e))
		}
		if len(found) == maxFound {
			fmt.Fprintln(w, "… and perhaps more: `gatepost journal` has them all.")
		}
	}
	teller.changes(changes, time.Now())
	return out.err
}

// teller tells stories.
type teller struct {
	story
	schema *rules.Schema
	binder *journal.Binder
	// As they are configured now, for what is not recorded.
	lists    config.Lists
	greylist *greylist.Config // nil: not known
}

func newTeller(s story, schema *rules.Schema, lists config.Lists) *teller {
	return &teller{story: s, schema: schema, binder: journal.NewBinder(schema), lists: lists}
}

// story is told from its beginning to its end: chapters, each with its lines.
type story interface {
	head(title string)
	line(indent int, format string, args ...any)
}

// plainStory is for a terminal.
type plainStory struct {
	w   io.Writer
	err error
}

func (s *plainStory) line(indent int, format string, args ...any) {
	_, err := fmt.Fprintln(s.w, strings.Repeat("  ", indent)+printable(fmt.Sprintf(format, args...)))
	s.err = errors.Join(s.err, err)
}

func (s *plainStory) head(title string) {
	fmt.Fprintln(s.w)
	s.line(0, "%s", title)
}
