package dnsbl

import (
	"context"
	"sync"
	"time"

	"gatepost/filters"
)

// How often lists are tested: sane ones hourly, others first soon and then less and less often.
const (
	testEvery   = time.Hour
	testTimeout = 10 * time.Second
	retryFirst  = 5 * time.Second
	retryLast   = 5 * time.Minute
)

var _ filters.Runner = (*Filter)(nil)

// Run implements [filters.Runner]: it tests every list at once and goes on testing until ctx ends.
func (f *Filter) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, lists := range [][]*list{f.clients, f.domains} {
		for _, l := range lists {
			if l.tested {
				wg.Go(func() { l.watch(ctx) })
			}
		}
	}
	wg.Wait()
}

// watch tests one list until ctx ends.
func (l *list) watch(ctx context.Context) {
	retry := retryFirst
	for {
		wait := testEvery
		if l.testAll(ctx) {
			retry = retryFirst
		} else {
			wait, retry = retry, min(2*retry, retryLast)
		}
		if !l.sleep(ctx, wait) {
			return
		}
	}
}

// sleep returns false when ctx has ended. A list that refuses a question in the meantime is not tested at once, or one
// that refuses now and then would come and go with each.
func (l *list) sleep(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return true
		case <-l.wake:
			timer.Reset(min(wait, retryLast))
		case <-ctx.Done():
			return false
		}
	}
}

// testAll returns whether all is well with the list.
func (l *list) testAll(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	well := true
	for _, s := range l.about {
		l.test(ctx, s)
		if l.state(s) != sane && l.covers(s) {
			well = false
		}
	}
	return well
}
