package quarantine

import (
	"context"
	"time"
)

// sweepEvery is how often messages are looked for whose time is up.
const sweepEvery = time.Minute

// Run warns of what is going to be removed and removes it, until ctx ends.
func (q *Quarantine) Run(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		q.sweep()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// expiry is when a message may be removed: its time is up, and the log has told so long before. The caller holds the
// mutex.
func (q *Quarantine) expiry(i *item) time.Time {
	at := i.kept.Add(time.Duration(q.config.Keep))
	warned := i.warned
	if warned.IsZero() {
		warned = q.clock.Now() // at the next sweep, if it is due
	}
	if told := warned.Add(time.Duration(q.config.Warn)); told.After(at) {
		return told
	}
	return at
}

// sweep warns and removes.
func (q *Quarantine) sweep() {
	q.warnOfRoom()
	for _, i := range q.due() {
		if err := q.remove(i.id); err != nil {
			q.failed("a message whose time is up cannot be removed", i.id, err)
			q.leave(i)
			continue
		}
		q.forget(i)
		q.metrics.Expired.Add(1)
		q.log.Info("quarantine: removed, its time was up", "id", i.id, "kept", i.kept.Format(time.RFC3339))
	}
}

// due tells the operator of messages whose time is nearly up, and returns those that he was told of in time, marked as
// busy. When he was told is not written down: after a restart he is told again.
func (q *Quarantine) due() (expired []*item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock.Now()
	var first *item
	told := 0
	for _, i := range q.items {
		switch {
		case i.busy, q.closed:
		case i.warned.IsZero():
			if now.Before(i.kept.Add(time.Duration(q.config.Keep - q.config.Warn))) {
				continue
			}
			i.warned = now
			if told++; first == nil {
				first = i
			}
		case !now.Before(q.expiry(i)):
			i.busy = true
			q.working.Add(1)
			expired = append(expired, i)
		}
	}
	if told > 0 {
		q.log.Warn("quarantine: messages are going to be removed; release what you want to keep", "messages", told,
			"first", first.id, "not_before", q.expiry(first).Format(time.RFC3339))
	}
	return expired
}

// warnOfRoom tells when little room is left, once until there is more again.
func (q *Quarantine) warnOfRoom() {
	q.mu.Lock()
	defer q.mu.Unlock()
	used := q.used * 100 / int64(q.config.Size)
	if count := int64(len(q.items)) * 100 / maxMessages; count > used {
		used = count
	}
	switch {
	case used >= plenty && !q.crowded:
		q.crowded = true
		q.log.Warn("quarantine: little room is left; when there is none, messages are answered 452", "percent", used,
			"messages", len(q.items), "bytes", q.used, "size", q.config.Size)
	case used < plenty-5:
		q.crowded = false
	}
}
