package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	tidyEvery = time.Second
	// worthTidying is how many bytes must have been allocated since the last time, and calmBytes how few in a moment
	// that counts as calm.
	worthTidying = 4 << 20
	calmBytes    = 1 << 20
)

// tidy gives memory back that a burst of load has left, when it is over: until ctx ends. Go itself collects when the heap
// has doubled, which after a burst with 15,000 clients waiting can be never, and gives back to the system slowly: that
// was 2 KiB for each of those clients.
func tidy(ctx context.Context) {
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	latest := allocated()
	tidied := latest
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := allocated()
		if now-latest < calmBytes && now-tidied > worthTidying {
			debug.FreeOSMemory()
			tidied = now
		}
		latest = now
	}
}

// allocated is how many bytes have been allocated on the heap since the start.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
