package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/proxy/config"
	"gatepost/proxy/journal"
)

// openJournal opens the journal of a configuration for reading. Damage is told on standard error; what is around it is
// read. A file that was broken since the proxy was started must not keep its operator from looking.
func openJournal(cmd *cobra.Command, file string) (*journal.Reader, journal.Config, error) {
	section, problems := config.Journal(file, all.Specs())
	switch {
	case section.Path == "":
		return nil, section, fmt.Errorf("%w; -c names the configuration that gatepost runs with", problems)
	case section.Path == journal.Off:
		return nil, section, errors.New("journal.path is off: no journal is kept")
	case problems.Failed():
		fmt.Fprintf(cmd.ErrOrStderr(), "%s cannot be used as it is now (`gatepost check` says why); looking into the journal in %s\n", file, section.Path)
	}
	reader, err := journal.NewReader(section.Path, func(d journal.Damage) { fmt.Fprintln(cmd.ErrOrStderr(), "journal:", d) })
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w; no gatepost has run with this configuration yet", err)
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("%w; the journal can be read by its owner and its group", err)
	}
	return reader, section, err
}

// pointInTime reads "2d" (that long ago) or a time such as "2026-11-22 07:24", in local time if it does not say.
func pointInTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	var span filters.Duration
	if span.UnmarshalText([]byte(text)) == nil {
		return now.Add(-time.Duration(span)), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is neither a time span such as 2d or 30m nor a time such as 2026-11-22 or 2026-11-22T07:24:00Z", text)
}

// subject is what `gatepost why` is asked about.
type subject struct {
	ids     []string
	address string
	client  netip.Addr
}

// parseSubject finds an id in any text, such as a bounce; otherwise it is an address, or a client's.
func parseSubject(text string) (subject, error) {
	if ids := idsIn(text); len(ids) > 0 {
		return subject{ids: ids}, nil
	}
	text = strings.Trim(strings.TrimSpace(text), "<>[]")
	if client, err := netip.ParseAddr(text); err == nil {
		return subject{client: client}, nil
	}
	if strings.Contains(text, "@") && !strings.ContainsAny(text, "\r\n") || strings.EqualFold(text, "postmaster") {
		return subject{address: text}, nil
	}
	return subject{}, errors.New("there is no id in that, and it is neither a mail address nor an IP address; an id has 13 characters, and perhaps .1 behind them")
}

// maxIDs bounds how many ids of one text are looked for.
const maxIDs = 20

func idsIn(text string) (ids []string) {
	for len(ids) < maxIDs {
		id, end, ok := journal.FindID(text)
		if !ok {
			return ids
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
		text = text[end:]
	}
	return ids
}

// entries finds what the journal has on a subject, newest first, at most limit. A session that had transactions comes
// behind them.
func (s subject) entries(ctx context.Context, r *journal.Reader, q journal.Query, limit int) (found []*journal.Entry, err error) {
	keep := func(e *journal.Entry) bool {
		if e.Change != nil && e.ID != q.ID || len(s.ids) == 0 && e.Transactions > 0 && e.Ending.Reply.Code == 0 {
			return true // its transactions tell more, and changes are told with them
		}
		found = append(found, e.Clone())
		return len(found) < limit
	}
	q.Newest, q.Confirmations = true, true
	q.Address, q.Client = s.address, s.client
	if len(s.ids) == 0 {
		return found, r.Each(ctx, q, keep)
	}
	for _, id := range s.ids {
		q.ID, q.Changes = id, journal.MailAndChanges
		if err := r.Each(ctx, q, keep); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(found, func(a, b *journal.Entry) int { return cmp.Compare(min(a.Transactions, 1), min(b.Transactions, 1)) })
	return found, nil
}
