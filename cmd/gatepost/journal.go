package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/policy"
	"gatepost/proxy/config"
	"gatepost/proxy/journal"
	"gatepost/proxy/telemetry"
	"gatepost/rules"
)

// listing is what `gatepost journal` is asked for.
type listing struct {
	since, until, where string
	asJSON, follow      bool
	last                int
}

func journalCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "journal",
		Short: "Search what was decided, and what operators changed: a line each",
		Long: `Search what was decided: sessions and transactions, and what operators changed, a line each, the oldest first. Without --since and -n these are the
last 50.

--where takes a condition as rules have them, over all facts (docs/facts.md) and over the entry itself (docs/journal.md):

  gatepost journal --since 2d --where 'dnsbl.score > 0 and verdict == "accept"'
  gatepost journal -f --where 'rule == "listed" or reply.code == 421'
  gatepost journal --since 30d --where 'change == "block" and by == "root"'
  gatepost journal --since 1h --where 'spf.result == "fail"' --json | jq .id

It reads the journal in its folder, whether a proxy is running or not. "gatepost why ID" tells all about one of them.`,
		Args: cobra.NoArgs,
	}
	file := configFlag(cmd)
	var l listing
	flags := cmd.Flags()
	flags.StringVar(&l.since, "since", "", "those that ended then or later: `time` or span such as 2d")
	flags.StringVar(&l.until, "until", "", "those that ended before: `time` or span")
	flags.StringVar(&l.where, "where", "", "those of which the `condition` is true")
	flags.BoolVar(&l.asJSON, "json", false, "print each as an object of JSON on a line")
	flags.BoolVarP(&l.follow, "follow", "f", false, "go on with those to come")
	flags.IntVarP(&l.last, "last", "n", 0, "the last `N` only")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return l.run(cmd, *file) }
	return cmd
}

// defaultLast is how many are shown to somebody who does not say.
const defaultLast = 50

func (l *listing) run(cmd *cobra.Command, file string) error {
	q, err := l.query(time.Now())
	if err != nil {
		return err
	}
	where, err := l.compile(file)
	if err != nil {
		return err
	}
	reader, _, err := openJournal(cmd, file)
	if err != nil {
		return err
	}
	defer reader.Close()
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	out := bufio.NewWriter(cmd.OutOrStdout())
	show := func(e *journal.Entry) error { return l.print(out, e) }
	if err := l.list(ctx, reader, q, where, show); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return out.Flush()
}

func (l *listing) query(now time.Time) (q journal.Query, err error) {
	if q.Since, err = pointInTime(l.since, now); err != nil {
		return q, fmt.Errorf("--since: %w", err)
	}
	if q.Until, err = pointInTime(l.until, now); err != nil {
		return q, fmt.Errorf("--until: %w", err)
	}
	q.Changes = journal.MailAndChanges
	switch {
	case l.last < 0:
		return q, errors.New("-n: a number from 1 on belongs here")
	case l.follow && l.until != "":
		return q, errors.New("--follow goes on with what is to come, --until ends before: give one of them")
	case l.last == 0 && l.since == "":
		l.last = defaultLast
	}
	return q, nil
}

// compile makes --where ready. Lists that it names are read as they are now.
func (l *listing) compile(file string) (*journal.Where, error) {
	if l.where == "" {
		return nil, nil
	}
	return compileWhere("--where", l.where, config.Instances(file, all.Specs()), config.Lists{Folder: config.ListsFolder(file, all.Specs())})
}

// compileWhere makes a condition ready; name stands for it in messages.
func compileWhere(name, text string, specs []filters.Spec, lists config.Lists) (*journal.Where, error) {
	schema, err := journal.SearchSchema(specs)
	if err != nil {
		return nil, err
	}
	source := rules.Source{Text: text, At: func(offset int) rules.Pos { return rules.Pos{File: name, Line: 1, Column: offset + 1} }}
	where, problems := journal.CompileWhere(schema, source, lists)
	if where == nil {
		texts := make([]string, len(problems))
		for i, p := range problems {
			texts[i] = p.String()
		}
		return nil, errors.New(strings.Join(texts, "\n"))
	}
	return where, nil
}

// onTheWay is for how long an entry may have ended and not be on disk yet.
const onTheWay = 5 * time.Second

// list hands on what is wanted: the last few, found from the end, and then what is to come.
func (l *listing) list(ctx context.Context, r *journal.Reader, q journal.Query, where *journal.Where, show func(*journal.Entry) error) error {
	wanted := func(e *journal.Entry) bool { return where == nil || where.Match(e) }
	var failed error
	shown := map[string]bool{}
	if l.last > 0 {
		q.Newest, q.Confirmations = true, true
		var found []*journal.Entry
		now := time.Now()
		err := r.Each(ctx, q, func(e *journal.Entry) bool {
			if wanted(e) {
				found = append(found, e.Clone())
			}
			return len(found) < l.last
		})
		for _, e := range slices.Backward(found) {
			err = errors.Join(err, show(e))
			shown[e.ID] = true
		}
		if err != nil || !l.follow {
			return err
		}
		q = journal.Query{Since: now.Add(-onTheWay), Changes: journal.MailAndChanges}
	}
	q.Follow, q.Confirmations = l.follow, !l.follow
	err := r.Each(ctx, q, func(e *journal.Entry) bool {
		if !shown[e.ID] && wanted(e) {
			failed = show(e)
		}
		return failed == nil
	})
	return errors.Join(err, failed)
}

func (l *listing) print(out *bufio.Writer, e *journal.Entry) error {
	if l.asJSON {
		if err := json.NewEncoder(out).Encode(journal.NewEntryJSON(e)); err != nil {
			return err
		}
	} else if _, err := fmt.Fprintln(out, entryLine(e)); err != nil {
		return err
	}
	if l.follow {
		return out.Flush()
	}
	return nil
}

// entryLine is an entry on one line.
func entryLine(e *journal.Entry) string {
	if e.Change != nil {
		return changeLine(e)
	}
	var b strings.Builder
	verdict := e.Verdict
	if e.Kind == policy.SessionRecord && verdict == telemetry.Abandon.String() {
		verdict = "ended" // nobody has given up anything
	}
	fmt.Fprintf(&b, "%s  %-16s %-8s", local(e.End), e.ID, verdict)
	if e.Session != nil {
		fmt.Fprintf(&b, " %s", e.Session.Client.IP)
	}
	if e.Envelope != nil {
		fmt.Fprintf(&b, " <%s> to %s", e.Envelope.ReversePath, recipientsText(e))
	} else if e.Greeting != nil {
		fmt.Fprintf(&b, " %s", e.Greeting.Name)
	}
	if reply, _ := e.Reply(); reply.Code != 0 {
		lines := journal.ReplyLines(reply)
		fmt.Fprintf(&b, "  %s", lines[len(lines)-1])
	}
	if rule := e.Decisive(); rule != nil {
		fmt.Fprintf(&b, "  [%s at %s]", rule.Name, rule.Place())
	}
	if e.Ending.Note != "" {
		fmt.Fprintf(&b, "  (%s)", e.Ending.Note)
	}
	return printable(b.String())
}

// maxRecipientsShown keeps a line readable.
const maxRecipientsShown = 3

func recipientsText(e *journal.Entry) string {
	if len(e.Recipients) == 0 {
		return "nobody"
	}
	var texts []string
	for i := range e.Recipients {
		if i == maxRecipientsShown {
			texts = append(texts, fmt.Sprintf("and %d more", len(e.Recipients)-i))
			break
		}
		texts = append(texts, "<"+e.Recipients[i].Address+">")
	}
	return strings.Join(texts, " ")
}
