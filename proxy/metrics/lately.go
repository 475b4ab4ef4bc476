package metrics

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// samplePause is how often the filters' counters are noted, and sampleCount how many notes are kept: what happened of
	// late is the difference to the oldest.
	samplePause = time.Minute
	sampleCount = 10
)

// Lately tells how filters have done in the last ten minutes. Sessions do nothing for it: counters are noted once a
// minute. It is safe for concurrent use.
type Lately struct {
	recorder *Recorder

	mu    sync.Mutex // guards notes
	notes []sample   // the oldest first
}

type sample struct {
	at      time.Time
	filters []FilterCounts
}

// NewLately returns one that knows nothing from before now.
func NewLately(r *Recorder, now time.Time) *Lately {
	l := &Lately{recorder: r}
	l.note(now)
	return l
}

// Run notes the counters until ctx ends.
func (l *Lately) Run(ctx context.Context) {
	ticker := time.NewTicker(samplePause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			l.note(time.Now())
		}
	}
}

func (l *Lately) note(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.notes) == sampleCount {
		l.notes = slices.Delete(l.notes, 0, 1)
	}
	l.notes = append(l.notes, sample{now, l.recorder.Filters()})
}

// Filters returns how a filter has done since the oldest note, and for how long that has been.
func (l *Lately) Filters(now time.Time) (list []FilterCounts, span time.Duration) {
	l.mu.Lock()
	oldest := l.notes[0]
	l.mu.Unlock()
	list = l.recorder.Filters()
	for i := range list {
		f := &list[i]
		for k := range oldest.filters {
			if before := &oldest.filters[k]; before.Name == f.Name {
				f.OK, f.Timeout, f.Error, f.Unfinished = f.OK-before.OK, f.Timeout-before.Timeout, f.Error-before.Error, f.Unfinished-before.Unfinished
				f.Duration = f.Duration.Since(before.Duration)
			}
		}
	}
	return list, now.Sub(oldest.at)
}
