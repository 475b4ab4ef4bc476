package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// headroom is how much garbage may pile up, in bytes, before it is collected. A proxy keeps little, 3 MiB, and with the
	// runtime's default collects after as much: messages that pass all filters take 5 to 18 % more processor time then
	// than with 8 MiB, and with those 2 to 5 % more than with this. Waiting sessions are strewn among the garbage of
	// others: with this headroom 15,000 of them, after a burst, take what they take with 8 MiB; with 32 MiB, twice as much.
	headroom = 16 << 20
	// leastPercent and mostPercent bound what the runtime is told: garbage in percent of what is kept.
	leastPercent, mostPercent = 100, 800
	// quietTime is how long next to nothing must have been allocated before garbage that has piled up is given back to the
	// system: those who only wait shall not keep the memory that a burst of work has taken.
	quietTime = 200 * time.Millisecond
	// quiet is next to nothing, in bytes per quietTime, and worthwhile is garbage that is worth a collection.
	quiet, worthwhile = 64 << 10, 2 << 20
)

// tendHeap lets garbage pile up while there is work, and gives it back when there is none. It returns when ctx ends, and
// does nothing where the environment says how garbage is to be collected (GOGC, GOMEMLIMIT).
func tendHeap(ctx context.Context) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	before := debug.SetGCPercent(mostPercent)
	defer debug.SetGCPercent(before)
	t := heapTender{percent: mostPercent}
	ticker := time.NewTicker(quietTime)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		percent, trim := t.look(readHeap())
		if percent != t.percent {
			t.percent = percent
			debug.SetGCPercent(percent)
		}
		if trim {
			debug.FreeOSMemory()
		}
	}
}

// heap is what the runtime tells about memory, in bytes.
type heap struct {
	kept      uint64 // at the latest collection
	allocated uint64 // ever
}

func readHeap() heap {
	samples := [...]metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(samples[:])
	return heap{kept: samples[0].Value.Uint64(), allocated: samples[1].Value.Uint64()}
}

// heapTender decides.
type heapTender struct {
	percent int
	latest  uint64 // heap.allocated at the latest look
	trimmed uint64 // heap.allocated when memory was given back
}

// look returns what the collector is to be told, and whether memory is to be given back.
func (t *heapTender) look(h heap) (percent int, trim bool) {
	percent = mostPercent
	if h.kept > 0 {
		percent = int(min(headroom*100/h.kept, mostPercent))
	}
	percent = max(percent/50*50, leastPercent) // in steps: telling the collector stops the world
	trim = h.allocated-t.latest < quiet && h.allocated-t.trimmed > worthwhile
	t.latest = h.allocated
	if trim {
		t.trimmed = h.allocated
	}
	return percent, trim
}
