package quarantine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Bounds of what is shown at once.
const (
	DefaultPage = 50
	MaxPage     = 200
	// MaxHeader is how many bytes of a message's beginning are shown.
	MaxHeader = 64 << 10
	// maxShown bounds the recipients in a summary.
	maxShown = 10
)

// Query asks for a page of the list, newest first.
type Query struct {
	Before string `json:"before,omitempty"` // the last id of the page before; empty: the newest
	Limit  int    `json:"limit,omitempty"`  // 0: DefaultPage; more than MaxPage: MaxPage
}

// Page is a part of the list.
type Page struct {
	Items []Summary `json:"items"`
	Next  string    `json:"next,omitempty"` // Query.Before of the next page; empty: there is none
	Total int       `json:"total"`          // messages in quarantine
	Bytes int64     `json:"bytes"`          // what they take on disk
	Limit int64     `json:"limit"`          // what they may take
	// Expiring is how many of all are going to be removed, and the log has told so.
	Expiring int `json:"expiring,omitempty"`
}

// Summary is a line of the list. Its texts were written by strangers.
type Summary struct {
	ID          string    `json:"id"`
	Kept        time.Time `json:"kept"`
	Expires     time.Time `json:"expires"`            // it is not removed before
	Expiring    bool      `json:"expiring,omitempty"` // it is going to be removed soon, and the log has told so
	Copy        bool      `json:"copy"`
	Rule        string    `json:"rule"`
	Client      string    `json:"client"` // its address
	ReversePath string    `json:"reverse_path"`
	Recipients  []string  `json:"recipients"` // the first of those that it was not released for
	Waiting     int       `json:"waiting"`    // all of those
	From        string    `json:"from,omitempty"`
	Subject     string    `json:"subject,omitempty"`
	Size        int64     `json:"size"`
	Busy        bool      `json:"busy,omitempty"`    // it is being released or removed
	Problem     string    `json:"problem,omitempty"` // why nothing is known of it
}

// List returns a page of what is kept.
func (q *Quarantine) List(ctx context.Context, query Query) (Page, error) {
	limit := query.Limit
	if limit <= 0 {
		limit = DefaultPage
	}
	var page Page
	page.Items, page.Next = q.page(query.Before, min(limit, MaxPage))
	stats := q.Stats()
	page.Total, page.Bytes, page.Limit, page.Expiring = stats.Messages, stats.Bytes, stats.Limit, stats.Expiring
	for i := range page.Items {
		if err := ctx.Err(); err != nil {
			return Page{}, err
		}
		q.describe(&page.Items[i])
	}
	return page, nil
}

// page returns the newest messages before an id, as far as the index knows them.
func (q *Quarantine) page(before string, limit int) (list []Summary, next string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	end := len(q.items)
	if before != "" {
		end, _ = q.find(before)
	}
	for end--; end >= 0; end-- {
		i := q.items[end]
		if i.coming {
			continue
		}
		if len(list) == limit {
			return list, list[limit-1].ID
		}
		list = append(list, Summary{ID: i.id, Kept: i.kept, Expires: q.expiry(i), Expiring: !i.warned.IsZero(), Busy: i.busy})
	}
	return list, ""
}

// describe adds what the side file knows.
func (q *Quarantine) describe(s *Summary) {
	e, err := readEntry(q.config.about(s.ID), s.ID)
	if err != nil {
		s.Problem = err.Error()
		if errors.Is(err, os.ErrNotExist) {
			s.Problem = "it has just been removed"
		}
		return
	}
	s.Copy, s.Rule, s.Client, s.ReversePath, s.Size = e.Copy, e.Rule.Name, e.Client.Address.Addr().String(), e.ReversePath, e.Size
	s.From, s.Subject = e.From, e.Subject
	for _, r := range e.Recipients {
		if !r.Released.IsZero() {
			continue
		}
		if s.Waiting++; s.Waiting <= maxShown {
			s.Recipients = append(s.Recipients, r.Address)
		}
	}
}

// Detail is all that is known of a message.
type Detail struct {
	Entry
	Expires time.Time `json:"expires"` // it is not removed before
	File    string    `json:"file"`    // the message
	Header  string    `json:"header"`  // its header block, up to MaxHeader bytes, as it came
}

// Show returns what is known of a message.
func (q *Quarantine) Show(_ context.Context, id string) (*Detail, error) {
	expires, err := q.expires(id)
	if err != nil {
		return nil, err
	}
	e, err := readEntry(q.config.about(id), id)
	if err != nil {
		return nil, err
	}
	header, err := readHeader(q.config.File(id))
	if err != nil {
		return nil, err
	}
	return &Detail{Entry: *e, Expires: expires, File: q.config.File(id), Header: header}, nil
}

func (q *Quarantine) expires(id string) (time.Time, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	place, there := q.find(id)
	if !there || q.items[place].coming {
		return time.Time{}, fmt.Errorf("%w: %q", ErrUnknown, id)
	}
	return q.expiry(q.items[place]), nil
}

// readHeader returns what stands before the first empty line.
func readHeader(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxHeader))
	if err != nil {
		return "", err
	}
	if end := bytes.Index(text, []byte("\r\n\r\n")); end >= 0 {
		text = text[:end+2]
	}
	return string(text), nil
}

// Delete removes a message for good.
func (q *Quarantine) Delete(_ context.Context, id string) error {
	i, err := q.take(id)
	if err != nil {
		return err
	}
	if err := q.remove(id); err != nil {
		q.failed("a message cannot be removed", id, err)
		q.leave(i)
		return err
	}
	q.forget(i)
	q.metrics.Deleted.Add(1)
	return nil
}
