package simulate

import (
	"container/heap"
	"math/rand/v2"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/policy"
)

// Config says what is played. The engines of all proxies are compiled with the clock and with one of the stores each.
type Config struct {
	Seed    uint64
	Clock   *filtertest.Clock
	Stores  []filters.Store                           // one for each proxy
	Compile func(filters.Env) (*policy.Engine, error) // Resolver, Store and Clock are given
	Delay   time.Duration                             // of greylisting

	Honest, Botnet, Snowshoe, Dictionary, TrapSenders, Hacked int // messages or sessions
}

type world struct {
	config  *Config
	rand    *rand.Rand
	clock   *filtertest.Clock
	zone    *zone
	proxies []*proxy
	result  *Result

	events queue
	serial int

	servers int                  // with a host of their own, so far
	seen    map[string]bool      // honest senders
	known   map[string]time.Time // since when mail of a domain was delivered
}

// Run plays it all.
func Run(c Config) (*Result, error) {
	w := &world{
		config: &c, rand: rand.New(rand.NewPCG(c.Seed, 0)), clock: c.Clock, zone: newZone(),
		result: newResult(), seen: map[string]bool{}, known: map[string]time.Time{},
	}
	for _, store := range c.Stores {
		engine, err := c.Compile(filters.Env{Resolver: w.zone, Store: store, Clock: c.Clock})
		if err != nil {
			return nil, err
		}
		w.proxies = append(w.proxies, &proxy{engine: engine, runtime: policy.Runtime{Clock: c.Clock}, clock: c.Clock})
	}
	w.honest(c.Honest)
	w.forge()
	w.botnet(c.Botnet)
	w.snowshoe(c.Snowshoe)
	w.dictionary(c.Dictionary)
	w.trapped(c.TrapSenders)
	w.hacked(c.Hacked)
	w.play()
	return w.result, nil
}

func (w *world) play() {
	second := w.clock.Now().Unix()
	for len(w.events) > 0 {
		e := heap.Pop(&w.events).(event)
		w.clock.Set(e.at)
		if now := e.at.Unix(); now > second {
			second = now
			for _, p := range w.proxies {
				p.settle()
			}
		}
		e.do()
	}
	for _, p := range w.proxies {
		p.settle()
	}
}

func (w *world) after(d time.Duration, do func()) {
	w.serial++
	heap.Push(&w.events, event{w.clock.Now().Add(d), w.serial, do})
}

// try makes an attempt at one of the proxies.
func (w *world) try(a *Attempt) Reply {
	return w.proxies[w.rand.IntN(len(w.proxies))].deliver(a)
}

func (w *world) spam(a *Attempt) Reply {
	reply := w.try(a)
	w.result.of(a.Kind).attempt(reply)
	return reply
}

// mail plays an honest message until it is delivered or given up.
func (w *world) mail(s *sender) {
	from, to := s.from(w.rand), w.user()
	who := from
	if s.byDomain {
		who = s.domain
	}
	m := &message{sender: s, begun: w.clock.Now(), isNew: !w.seen[who]}
	w.seen[who] = true
	if since, ok := w.known[s.domain]; ok && m.begun.Sub(since) > 2*time.Second {
		m.isKnown = true
	}
	var try func(n int)
	try = func(n int) {
		client, greeting := s.host(w.rand)
		reply := w.try(&Attempt{Kind: s.kind.name, Client: client, Greeting: greeting, From: from, To: []string{to}, Message: s.message})
		age := w.clock.Now().Sub(m.begun)
		m.heard(reply, age, w.config.Delay)
		switch {
		case reply.Code == 250:
			if _, ok := w.known[s.domain]; !ok {
				w.known[s.domain] = w.clock.Now()
			}
		case reply.comesBack() && age < s.schedule.GiveUp:
			w.after(s.schedule.After(w.rand, n, age), func() { try(n + 1) })
			w.result.of(s.kind.name).attempt(reply)
			return
		}
		tally := w.result.of(s.kind.name)
		tally.attempt(reply)
		tally.ended(m, age, reply)
	}
	try(1)
}

type event struct {
	at     time.Time
	serial int
	do     func()
}

// queue is a heap of events.
type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if q[i].at.Equal(q[j].at) {
		return q[i].serial < q[j].serial
	}
	return q[i].at.Before(q[j].at)
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(e any)   { *q = append(*q, e.(event)) }
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

var _ filters.Ready = (*zone)(nil)
