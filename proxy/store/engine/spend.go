package engine

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"gatepost/filters"
)

// Spend takes n tokens from a bucket, into debt if need be, and returns when the bucket will be full again: never
// before now.
func (e *Engine) Spend(ctx context.Context, b filters.Bucket, n int64) (full time.Time, err error) {
	now := e.clock.Now()
	arguments := []string{strconv.FormatInt(now.UnixMicro(), 10), strconv.FormatInt(Cost(b, n).Microseconds(), 10)}
	values, err := e.exec(ctx, spendScript, []string{e.keys.bucket(b)}, arguments).AsStrSlice()
	if err != nil {
		return time.Time{}, err
	}
	if len(values) != 1 {
		return time.Time{}, fmt.Errorf("a script answered %d values for a bucket", len(values))
	}
	micro, err := strconv.ParseInt(values[0], 10, 64)
	return time.UnixMicro(micro), err
}

// maxCost keeps moments within what Lua's numbers hold exactly.
const maxCost = 10 * 365 * 24 * time.Hour

// Cost is how long n tokens of a bucket take to come back, ten years at most.
func Cost(b filters.Bucket, n int64) time.Duration {
	return time.Duration(min(float64(n)/b.PerSecond, maxCost.Seconds()) * float64(time.Second))
}
