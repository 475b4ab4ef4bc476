package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatepost/filters/all"
	"gatepost/filters/greylist"
	"gatepost/policy"
	"gatepost/proxy/admin"
	"gatepost/proxy/config"
	"gatepost/proxy/journal"
)

// openJournal opens the journal that this proxy writes, for reading.
func (o operator) openJournal() (*journal.Reader, error) {
	if o.h.journal == nil {
		return nil, errors.New("journal.path is off: no journal is kept")
	}
	return journal.NewReader(o.h.started.Journal.Path, func(d journal.Damage) { o.h.log.Warn("journal: damaged", "damage", d.String()) })
}

// Search implements admin.House.
func (o operator) Search(ctx context.Context, s admin.Search) (*admin.Found, error) {
	q := journal.Query{Newest: true, Changes: journal.MailAndChanges, Confirmations: strings.Contains(s.Where, "confirmed")} // it costs a second look at everything
	now := time.Now()
	var err error
	if q.Since, err = pointInTime(s.Since, now); err != nil {
		return nil, fmt.Errorf("since: %w", err)
	}
	if q.Until, err = pointInTime(s.Until, now); err != nil {
		return nil, fmt.Errorf("until: %w", err)
	}
	var where *journal.Where
	if s.Where != "" {
		if where, err = compileWhere("condition", s.Where, policy.Instances(all.Specs(), o.h.inForce().config.Filters), config.Lists{Folder: o.h.inForce().config.Lists}); err != nil {
			return nil, err
		}
	}
	reader, err := o.openJournal()
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	found := &admin.Found{}
	at := now
	err = reader.Each(ctx, q, func(e *journal.Entry) bool {
		at = e.End
		if where == nil && e.Transactions == 0 || where != nil && where.Match(e) { // of a session its transactions tell more
			found.More = len(found.Entries) == s.Limit
			if !found.More {
				found.Entries = append(found.Entries, e.Clone())
			}
		}
		return !found.More && ctx.Err() == nil
	})
	if ctx.Err() != nil {
		found.Stopped, err = at, nil
	}
	return found, err
}

// Why implements admin.House.
func (o operator) Why(ctx context.Context, text string, limit int) ([]admin.Story, error) {
	wanted, err := parseSubject(text)
	if err != nil {
		return nil, err
	}
	if wanted.address != "" {
		if wanted.address, err = journal.Disguise(o.h.inForce().config.Journal, wanted.address); err != nil {
			return nil, err
		}
	}
	reader, err := o.openJournal()
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	found, err := wanted.entries(ctx, reader, journal.Query{}, limit)
	if err != nil && (len(found) == 0 || ctx.Err() == nil) {
		return nil, err
	}
	changes, err := changesAbout(ctx, reader, wanted, found)
	if err != nil && ctx.Err() == nil {
		return nil, err
	}
	if len(wanted.ids) == 0 {
		found = withChanges(found, changes, limit)
	}
	force := o.h.inForce().config
	schema, err := journal.SearchSchema(policy.Instances(all.Specs(), force.Filters))
	if err != nil {
		return nil, err
	}
	stories := make([]admin.Story, len(found))
	for i, e := range found {
		told := &bookStory{}
		teller := newTeller(told, schema, config.Lists{Folder: force.Lists})
		teller.greylist, _ = force.Filters[greylist.Spec.Name].Settings.(*greylist.Config)
		teller.tell(e)
		if e.Change == nil {
			teller.changes(slices.DeleteFunc(slices.Clone(changes), func(c *journal.Entry) bool { return !c.Change.ConcernsEntry(e) }), time.Now())
		}
		stories[i] = admin.Story{Entry: e, Chapters: told.chapters}
	}
	return stories, nil
}

// withChanges puts changes among entries, the newest first.
func withChanges(found, changes []*journal.Entry, limit int) []*journal.Entry {
	found = append(found, changes...)
	slices.SortStableFunc(found, func(a, b *journal.Entry) int { return b.End.Compare(a.End) })
	return found[:min(len(found), limit)]
}

// bookStory keeps a story in chapters.
type bookStory struct{ chapters []admin.Chapter }

func (b *bookStory) head(title string) {
	b.chapters = append(b.chapters, admin.Chapter{Title: title})
}

// line adds to the chapter; those before the first one are a title of their own.
func (b *bookStory) line(indent int, format string, args ...any) {
	if len(b.chapters) == 0 {
		b.head(fmt.Sprintf(format, args...))
		return
	}
	last := &b.chapters[len(b.chapters)-1]
	last.Lines = append(last.Lines, admin.Line{Indent: indent, Text: fmt.Sprintf(format, args...)})
}
