package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/filters/exception"
	"gatepost/filters/greylist"
	"gatepost/proxy/admin"
	"gatepost/proxy/config"
	"gatepost/proxy/metrics"
)

// operator is the house as the admin pages see and change it.
type operator struct{ h *house }

var _ admin.House = operator{}

// busiest is how many clients are shown.
const busiest = 20

// Now implements admin.House.
func (o operator) Now() admin.Now {
	h := o.h
	m := h.server.Metrics()
	now := admin.Now{At: h.clock.Now(), Started: h.begun, NotReady: h.notReady(), Hints: h.hints(), Bypass: h.runtime.Bypass.Until()}
	now.Sessions = admin.Sessions{Open: m.Open.Load(), Total: m.Sessions.Load(), TLS: m.TLS.Load(),
		Refused: m.RefusedFull.Load() + m.RefusedPerClient.Load() + m.RefusedNoBackend.Load()}
	for _, c := range h.server.Busiest(busiest) {
		network := c.Network.String()
		if c.Network.IsSingleIP() {
			network = c.Network.Addr().String()
		}
		now.Sessions.Networks = append(now.Sessions.Networks, admin.ClientNetwork{Network: network, Sessions: c.Sessions})
	}
	for _, b := range h.backendsInForce() {
		if b.Group == nil {
			continue
		}
		for _, st := range b.Group.Stats() {
			now.Backends = append(now.Backends, admin.Backend{Use: b.Use, Address: st.Address, Up: st.Up, Usable: st.Usable, Open: st.Open,
				Limit: st.Limit, Waiting: st.Waiting, Failed: st.Failed, Lost: st.Lost})
		}
	}
	now.Sessions.Oldest = o.openSessions(now.At)
	engine := h.inForce().engine
	lately, _ := h.lately.Filters(now.At)
	for _, f := range h.counts.Filters() {
		instance := engine.Filter(f.Name)
		if instance == nil {
			continue
		}
		one := admin.Filter{Name: f.Name, Answers: answersOf(&f)}
		for i := range lately {
			if lately[i].Name == f.Name {
				one.Late = answersOf(&lately[i])
			}
		}
		if b, ok := instance.(filters.Breaker); ok {
			c := admin.Circuit(b.Circuit())
			one.Circuit = &c
		}
		now.Filters = append(now.Filters, one)
	}
	return now
}

// shownSessions is how many sessions are listed.
const shownSessions = 50

// openSessions are the sessions in progress, the oldest first.
func (o operator) openSessions(now time.Time) []admin.OpenSession {
	list := []admin.OpenSession{}
	for _, p := range o.h.server.InProgress(shownSessions) {
		s := admin.OpenSession{ID: p.Session.ID, Client: p.Session.Client.IP.String(), Age: max(0, now.Sub(p.Session.Accepted).Seconds()),
			Stage: p.Stage.String(), AtStage: p.Since.Seconds(), Bytes: p.Bytes, Waits: p.Waits}
		if g := p.Greeting; g != nil {
			s.Name, s.User, s.TLS = g.Name, g.AuthUser, g.TLS != nil
		}
		list = append(list, s)
	}
	return list
}

func answersOf(f *metrics.FilterCounts) admin.Answers {
	a := admin.Answers{OK: f.OK, Timeout: f.Timeout, Error: f.Error, Unfinished: f.Unfinished, MedianMillis: inMillis(f.Duration.Within(0.5)),
		P95Millis: inMillis(f.Duration.Within(0.95)), P99Millis: inMillis(f.Duration.Within(0.99))}
	if n := f.Duration.Count(); n > 0 {
		a.MeanMillis = inMillis(f.Duration.Sum) / float64(n)
	}
	return a
}

func inMillis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// inForce is what new sessions work with.
func (h *house) inForce() inForce {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.force
}

// Rules implements admin.House.
func (o operator) Rules() (list []admin.Rule) {
	for _, r := range o.h.inForce().engine.Rules().Rules() {
		rule := admin.Rule{Name: r.Name, Place: fmt.Sprintf("%s:%d", r.Pos.File, r.Pos.Line), Stage: filters.Stage(r.Stage).String(),
			Action: r.Action.String(), Mode: r.Mode.String(), When: strings.Join(strings.Fields(r.When), " ")}
		rule.Enforced, rule.Observed = o.h.counts.Matches(r.Name)
		rule.Outcomes, rule.Last = o.h.traffic.Rule(r.Name)
		list = append(list, rule)
	}
	return list
}

// RulesText implements admin.House.
func (o operator) RulesText() (string, error) {
	var b strings.Builder
	err := o.h.inForce().config.WriteRules(&b)
	return b.String(), err
}

// Lists implements admin.House.
func (o operator) Lists() (list []admin.List) {
	force := o.h.inForce()
	for _, f := range force.engine.Rules().Lists() {
		path := f.Name
		if !filepath.IsAbs(path) {
			path = filepath.Join(force.config.Lists, path)
		}
		list = append(list, admin.List{Name: f.Name, Path: path, Entries: f.Entries, Bytes: f.Bytes, Missing: f.Missing, Rules: f.Rules})
	}
	return list
}

// Configuration implements admin.House.
func (o operator) Configuration() (string, error) {
	var comments config.Comments
	if err := json.Unmarshal(commentsJSON, &comments); err != nil {
		return "", fmt.Errorf("comments.json: %w", err)
	}
	var b strings.Builder
	err := o.h.inForce().config.Write(&b, comments)
	return b.String(), err
}

// Greylist implements admin.House.
func (o operator) Greylist(ctx context.Context, query string, yield func(greylist.Entry) bool) error {
	filter, err := o.h.greylister()
	if err != nil {
		return err
	}
	return filter.List(ctx, query, yield)
}

// PassGreylist implements admin.House.
func (o operator) PassGreylist(ctx context.Context, query string) (string, error) {
	return o.h.passGreylist(ctx, query, admin.Visitor(ctx))
}

// ForgetGreylist implements admin.House.
func (o operator) ForgetGreylist(ctx context.Context, query string) (int, error) {
	return o.h.forgetGreylist(ctx, query, admin.Visitor(ctx))
}

// Exceptions implements admin.House.
func (o operator) Exceptions(ctx context.Context) ([]*exception.Entry, error) {
	filter, err := o.h.exceptions()
	if err != nil {
		return nil, err
	}
	allowed, err := filter.List(ctx, exception.Allow)
	if err != nil {
		return nil, err
	}
	blocked, err := filter.List(ctx, exception.Block)
	list := append(allowed, blocked...)
	slices.SortStableFunc(list, func(a, b *exception.Entry) int { return a.Expires.Compare(b.Expires) })
	return list, err
}

// AddException implements admin.House.
func (o operator) AddException(ctx context.Context, r exception.Request) (*exception.Entry, bool, error) {
	added, err := o.h.addException(ctx, r, admin.Visitor(ctx))
	if err != nil {
		return nil, false, err
	}
	return added.Entry, added.Unread, nil
}

// RemoveException implements admin.House.
func (o operator) RemoveException(ctx context.Context, r exception.Request) (int, error) {
	return o.h.removeException(ctx, r, admin.Visitor(ctx))
}

// Memories implements admin.House.
func (o operator) Memories() (kinds []filters.MemoryKind) {
	for _, m := range o.h.memories() {
		kinds = append(kinds, m.Kind())
	}
	return kinds
}

// Learned implements admin.House.
func (o operator) Learned(ctx context.Context, memory, query string, yield func(filters.Learned) bool) error {
	m, err := o.h.learned(memory)
	if err != nil {
		return err
	}
	return m.List(ctx, query, yield)
}

// ForgetLearned implements admin.House.
func (o operator) ForgetLearned(ctx context.Context, memory, query string) (int, error) {
	return o.h.forgetLearned(ctx, memory, query, admin.Visitor(ctx))
}
