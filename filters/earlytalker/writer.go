package earlytalker

import (
	"context"
	"time"
)

const (
	maxBatch     = 256
	writeTimeout = 2 * time.Second
)

// Run implements [filters.Runner]: it writes the networks that Concluded has seen.
func (f *Filter) Run(ctx context.Context) {
	failing := false
	for {
		select {
		case <-ctx.Done():
			f.write(ctx, f.batch(nil))
			return
		case first := <-f.passed:
			err := f.write(ctx, f.batch([]string{first}))
			if err != nil && !failing {
				f.log.Warn("cannot remember clients that mail was accepted from; they will see the greeting pause again", "error", err)
			}
			failing = err != nil
		}
	}
}

// batch adds what waits, without waiting for more.
func (f *Filter) batch(keys []string) []string {
	for len(keys) < maxBatch {
		select {
		case key := <-f.passed:
			keys = append(keys, key)
		default:
			return keys
		}
	}
	return keys
}

// write outlives ctx for a moment: what was taken from the queue is not lost when the filter stops.
func (f *Filter) write(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	return f.store.Pass(ctx, space, keys, time.Duration(f.config.Keep))
}
