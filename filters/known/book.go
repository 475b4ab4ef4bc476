package known

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/filters"
)

const (
	// maxNotes bounds the things that wait to be written, about 150 bytes each. It is more than all that can rest, so that these
	// leave room for who is new.
	maxNotes = 50_000
	// maxRested bounds the things that are known to have been written lately, twice.
	maxRested = 20_000
	// rest is for how long, at least, what was written is not written again; it waits meanwhile, counted. So a large
	// provider costs the store one write in that time, and the others' copies of its mark stay good for as long.
	rest = 5 * time.Minute
	// atOnce is how many things one write takes.
	atOnce = 128
	// pause is how often what was noted is written.
	pause = time.Second
	// writeLimit is how long one write may take.
	writeLimit = time.Second
)

// note is something that was seen and waits to be written.
type note struct {
	keep  time.Duration
	times uint32
}

// book collects notes until they are written. It is safe for concurrent use.
type book struct {
	mu      sync.Mutex // guards waiting, late, earlier, turned
	waiting map[string]note
	late    map[string]struct{} // written since turned
	earlier map[string]struct{} // written in the time before
	turned  time.Time

	senders, correspondents counts
	full                    chan struct{} // wakes who writes
}

// counts are since the start of the process.
type counts struct{ noted, written, dropped, refused atomic.Int64 }

func newBook() *book {
	return &book{waiting: map[string]note{}, late: map[string]struct{}{}, earlier: map[string]struct{}{}, full: make(chan struct{}, 1)}
}

// countsOf are those that a key belongs to.
func (b *book) countsOf(key string) *counts {
	if strings.HasPrefix(key, correspondentPrefix) {
		return &b.correspondents
	}
	return &b.senders
}

// note writes something down. It does not wait.
func (b *book) note(key string, keep time.Duration) {
	c := b.countsOf(key)
	c.noted.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	n, waits := b.waiting[key]
	if !waits && len(b.waiting) >= maxNotes {
		c.dropped.Add(1)
		return
	}
	b.waiting[key] = note{keep, n.times + 1}
	if !waits && len(b.waiting)%atOnce == 0 {
		select {
		case b.full <- struct{}{}:
		default:
		}
	}
}

// knows tells whether something waits, or was written a short while ago.
func (b *book) knows(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, waits := b.waiting[key]
	return waits || b.rests(key)
}

// rests is called with b.mu held.
func (b *book) rests(key string) bool {
	_, late := b.late[key]
	_, earlier := b.earlier[key]
	return late || earlier
}

// due removes what was not written a short while ago, and groups it: those of a group are written together.
func (b *book) due(now time.Time) map[note][]string {
	return b.take(now, func(key string) bool { return !b.rests(key) })
}

// all removes all that waits, and groups it.
func (b *book) all(now time.Time) map[note][]string {
	return b.take(now, func(string) bool { return true })
}

// take calls wanted with b.mu held.
func (b *book) take(now time.Time, wanted func(key string) bool) map[note][]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if age := now.Sub(b.turned); age >= rest || age < 0 || len(b.late) >= maxRested {
		b.late, b.earlier, b.turned = map[string]struct{}{}, b.late, now
		if age >= 2*rest || age < 0 {
			b.earlier = map[string]struct{}{}
		}
	}
	groups := map[note][]string{}
	for key, n := range b.waiting {
		if wanted(key) {
			groups[n] = append(groups[n], key)
			delete(b.waiting, key)
			b.late[key] = struct{}{}
		}
	}
	return groups
}

// pending is how many notes wait that counts belong to.
func (b *book) pending(of *counts) (n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key := range b.waiting {
		if b.countsOf(key) == of {
			n++
		}
	}
	return n
}

// Run implements [filters.Runner]: it writes what is noted until ctx ends, and then what is left.
func (f *Filter) Run(ctx context.Context) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f.write(ctx, f.book.due(f.clock.Now()))
		case <-f.book.full:
			f.write(ctx, f.book.due(f.clock.Now()))
		case <-ctx.Done():
			f.Flush(context.WithoutCancel(ctx))
			return
		}
	}
}

// Flush writes all that is noted.
func (f *Filter) Flush(ctx context.Context) { f.write(ctx, f.book.all(f.clock.Now())) }

func (f *Filter) write(ctx context.Context, groups map[note][]string) {
	for n, keys := range groups {
		for start := 0; start < len(keys); start += atOnce {
			f.tell(ctx, keys[start:min(start+atOnce, len(keys))], n)
		}
	}
}

// tell gives the store some notes. What it does not take is lost: those who are known stay so for as long as they are, and
// the others are noted with their next message.
func (f *Filter) tell(ctx context.Context, keys []string, n note) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer cancel()
	_, err := f.store.Attempt(ctx, space, keys, filters.Terms{Window: n.keep, Keep: n.keep, Times: n.times})
	for _, key := range keys {
		c := f.book.countsOf(key)
		if err == nil {
			c.written.Add(1)
		} else {
			c.dropped.Add(1)
		}
	}
	if err != nil {
		f.log.Debug("known: senders could not be noted", "number", len(keys), "error", err)
	}
}
