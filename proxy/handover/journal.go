package handover

import (
	"context"

	"gatepost/proxy/journal"
)

// Block is some entries of the journal.
type Block = journal.Parcel

// Append gives a block to the process at the other end, and returns when that has taken it.
func Append(l *Link, b Block) error {
	ctx, cancel := context.WithTimeout(context.Background(), keepPatience)
	defer cancel()
	return l.Call(ctx, "journal", b, nil)
}

// ServeJournal takes blocks of the other end.
func ServeJournal(l *Link, j *journal.Journal) {
	l.Handle("journal", func(_ context.Context, body []byte, _ func(any) error) (any, error) {
		var b Block
		if err := Decode(body, &b); err != nil {
			return nil, errNotUnderstood
		}
		return nil, j.Append(b)
	})
}
