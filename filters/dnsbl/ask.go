package dnsbl

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"gatepost/filters"
)

// sum is what several lists say about one thing.
type sum struct {
	score                   float64
	known                   bool // somebody answered, or the answer is clear without asking
	listed, allowed, failed []string
}

// points is the score as a fact: absent where there was nobody to ask.
func (s *sum) points() *float64 {
	if !s.known {
		return nil
	}
	return &s.score
}

// reply is what one list says.
type reply struct {
	block, allow float64
	skipped      bool // it turned out that the list knows nothing of the kind
	err          error
}

// askAll puts one question to all lists at the same time. If some do not answer, the others count; if none does, that
// is an error: "not listed" would be a guess.
func askAll(ctx context.Context, asked []*list, about subject, question string) (*sum, error) {
	replies := make([]reply, len(asked))
	var wg sync.WaitGroup
	attempt := filters.AttemptOf(ctx) != nil
	for i, l := range asked {
		if attempt || i == len(asked)-1 { // the last one needs no goroutine
			replies[i] = l.ask(ctx, about, question)
			continue
		}
		wg.Go(func() { replies[i] = l.ask(ctx, about, question) })
	}
	wg.Wait()

	s := &sum{}
	var reasons []string
	for i, r := range replies {
		name := asked[i].name
		if r.err != nil {
			s.failed = append(s.failed, name)
			reasons = append(reasons, name+": "+r.err.Error())
			continue
		}
		if r.skipped {
			continue
		}
		s.known = true
		s.score += r.block + r.allow
		if r.block > 0 {
			s.listed = append(s.listed, name)
		}
		if r.allow < 0 {
			s.allowed = append(s.allowed, name)
		}
	}
	if !s.known && len(s.failed) > 0 {
		return nil, fmt.Errorf("no list answered: %s", strings.Join(reasons, "; "))
	}
	return s, nil
}

var (
	errLeftOut   = errors.New("left out: it failed its test")
	errUntested  = errors.New("not tested yet: the DNS does not answer")
	errRefused   = errors.New("refuses to answer our resolver")
	errTimeout   = errors.New("no answer in time")
	errTemporary = errors.New("temporary failure")
)

// ask puts the question to this list if it is sane. A list that has never been tested is tested first.
func (l *list) ask(ctx context.Context, about subject, question string) (r reply) {
	defer func() { // the caller's net does not reach into this goroutine
		if p := recover(); p != nil {
			r = reply{err: fmt.Errorf("panic: %v", p)}
		}
	}()
	if l.state(about) == untested {
		l.test(ctx, about)
	}
	if !l.covers(about) {
		return reply{skipped: true}
	}
	switch l.state(about) {
	case sane:
	case untested:
		return reply{err: errUntested}
	default:
		return reply{err: errLeftOut}
	}
	found, err := l.lookup(ctx, question)
	if err != nil {
		return reply{err: err}
	}
	if refuses(found) {
		l.refused(about)
		return reply{err: errRefused}
	}
	block, allow := weigh(l.codes, found)
	return reply{block: block, allow: allow}
}

// lookup returns no answer for a name that does not exist. The resolver's own errors name the question, and with it the
// key: they go no further than here.
func (l *list) lookup(ctx context.Context, question string) ([]netip.Addr, error) {
	found, err := l.env.Resolver.LookupA(ctx, question+l.suffix)
	switch {
	case err == nil:
		return found, nil
	case errors.Is(err, filters.ErrNXDomain):
		return nil, nil
	case ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded):
		return nil, errTimeout
	default:
		return nil, errTemporary
	}
}
