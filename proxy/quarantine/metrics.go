package quarantine

import "sync/atomic"

// Metrics counts what the quarantine does. Every field is safe for concurrent use and only grows.
type Metrics struct {
	Kept     atomic.Int64 // messages in place of a delivery
	Copies   atomic.Int64 // messages that were refused
	Full     atomic.Int64 // messages and copies for which there was no room
	Errors   atomic.Int64 // failed attempts to write, sync or remove
	Released atomic.Int64 // messages that the backend has taken for all recipients
	Deleted  atomic.Int64 // by an operator
	Expired  atomic.Int64 // removed because their time was up
}

// Stats is what is there now.
type Stats struct {
	Messages int   // copies included
	Bytes    int64 // on disk
	Limit    int64 // of bytes
	Expiring int   // messages that are going to be removed and of which the log has told
	Crowded  bool  // little room is left, and the log has told
}

// Metrics counts what it does.
func (q *Quarantine) Metrics() *Metrics { return &q.metrics }

// Stats is what is there now.
func (q *Quarantine) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Stats{Messages: len(q.items), Bytes: q.used, Limit: int64(q.config.Size), Crowded: q.crowded}
	for i := range q.items {
		if !q.items[i].warned.IsZero() {
			s.Expiring++
		}
	}
	return s
}
