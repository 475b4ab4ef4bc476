package dmarc

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"gatepost/filters"
)

const (
	queued      = 4096            // sightings that wait for the store
	storeLimit  = 5 * time.Second // for one of them
	drainLimit  = 2 * time.Second // for all that are left at the end
	neverPasses = 100 * 365 * 24 * time.Hour
)

// collector counts what becomes of messages. Sessions put sightings into its queue and never wait; one goroutine takes
// them out and counts them in the store.
type collector struct {
	config ReportConfig
	env    filters.Env
	queue  chan sighting
	lost   atomic.Uint64 // sightings for which the queue had no room

	// The fields below belong to Run.
	day     string
	rows    map[string]bool // "domain|kind|id" of the day's texts
	domains map[string]int  // how many of them each domain has
	told    map[string]bool // what was logged about the day
}

func newCollector(config ReportConfig, env filters.Env) *collector {
	return &collector{config: config, env: env, queue: make(chan sighting, queued)}
}

// Concluded implements [filters.Witness].
func (f *Filter) Concluded(o *filters.Outcome) {
	if f.collector == nil {
		return
	}
	if s, ok := sight(o); ok {
		f.collector.take(s)
	}
}

func (c *collector) take(s sighting) {
	select {
	case c.queue <- s:
	default:
		c.lost.Add(1)
	}
}

// Run implements [filters.Runner]: it counts until ctx ends, and then what is left in the queue.
func (f *Filter) Run(ctx context.Context) {
	c := f.collector
	if c == nil {
		return
	}
	whole := context.WithoutCancel(ctx) // what has begun is finished
	for {
		select {
		case s := <-c.queue:
			c.count(whole, s)
		case <-ctx.Done():
			rest, cancel := context.WithTimeout(whole, drainLimit)
			defer cancel()
			for len(c.queue) > 0 && rest.Err() == nil {
				c.count(rest, <-c.queue)
			}
			return
		}
	}
}

// count adds a sighting to its day.
func (c *collector) count(ctx context.Context, s sighting) {
	ctx, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	day := c.env.Clock.Now().UTC().Format(time.DateOnly)
	if day != c.day {
		c.begin(ctx, day)
	}
	text, err := json.Marshal(s.row)
	if err != nil {
		c.tell("a result could not be written down for the DMARC reports", err)
		return
	}
	var keys []string
	if c.room(s.domain, kindRecord, s.record) && c.room(s.domain, kindRow, string(text)) {
		keys = append(keysOf(day, s.domain, kindRecord, s.record), keysOf(day, s.domain, kindRow, string(text))...)
	} else if c.room(s.domain, kindMissing, "") {
		keys = keysOf(day, s.domain, kindMissing, "")
	}
	if len(keys) == 0 {
		c.tell("more domains than max_rows allows: some will get no DMARC report about this day", nil)
		return
	}
	// Nothing ever passes here: a mark's attempts are what is counted.
	terms := filters.Terms{Delay: neverPasses, Window: time.Duration(c.config.Keep), Keep: time.Duration(c.config.Keep)}
	if _, err := c.env.Store.Attempt(ctx, space, keys, terms); err != nil {
		c.tell("results are missing from the DMARC reports of this day: the store does not take them", err)
	}
	if lost := c.lost.Load(); lost > 0 {
		c.tell("results are missing from the DMARC reports of this day: they came too fast", nil)
	}
}

// begin starts a day, which may be under way: another run of this program counted before.
func (c *collector) begin(ctx context.Context, day string) {
	c.day, c.rows, c.domains, c.told = day, map[string]bool{}, map[string]int{}, map[string]bool{}
	err := c.env.Store.Range(ctx, space, day+"|", func(key string, _ filters.Mark) bool {
		if f, ok := parseKey(key); ok && f.part == 0 {
			c.admit(f.domain, f.domain+"|"+f.kind+"|"+f.id)
		}
		return true
	})
	if err != nil {
		c.tell("the DMARC results of this day could not be read: more rows than max_rows may come together", err)
	}
}

// room tells whether a text may be counted: it is known, or the bounds leave room for another. What counts the messages
// without a row always has room in a domain that has rows.
func (c *collector) room(domain, kind, text string) bool {
	name := domain + "|" + kind + "|" + textID(text)
	if c.rows[name] {
		return true
	}
	if kind != kindMissing && (c.domains[domain] >= c.config.MaxRows/10 || len(c.rows) >= c.config.MaxRows) {
		return false
	}
	if kind == kindMissing && c.domains[domain] == 0 {
		return false
	}
	c.admit(domain, name)
	return true
}

func (c *collector) admit(domain, name string) {
	if !c.rows[name] {
		c.rows[name] = true
		c.domains[domain]++
	}
}

// tell logs a trouble once a day.
func (c *collector) tell(trouble string, err error) {
	if c.told[trouble] || errors.Is(err, context.Canceled) {
		return
	}
	c.told[trouble] = true
	if err != nil {
		c.env.Log.Warn(trouble, "error", err)
		return
	}
	c.env.Log.Warn(trouble)
}
