package main

import (
	"context"
	"runtime/debug"
	"testing"
	"time"
)

func TestHeapTender(t *testing.T) {
	const mib = 1 << 20
	tender := heapTender{}
	for i, step := range []struct {
		heap    heap
		percent int
		trim    bool
	}{
		{heap{kept: 0, allocated: 1 * mib}, 800, false},        // starting
		{heap{kept: 3 * mib, allocated: 90 * mib}, 500, false}, // at work
		{heap{kept: 8 * mib, allocated: 190 * mib}, 200, false},
		{heap{kept: 9 * mib, allocated: 190*mib + quiet - 1}, 150, true}, // quiet
		{heap{kept: 4 * mib, allocated: 190*mib + quiet}, 400, false},    // nothing to gain
		{heap{kept: 4 * mib, allocated: 191 * mib}, 400, false},
		{heap{kept: 4 * mib, allocated: 193 * mib}, 400, false}, // at work again
		{heap{kept: 4 * mib, allocated: 193 * mib}, 400, true},
		{heap{kept: 2000 * mib, allocated: 4000 * mib}, 100, false}, // a large store: no less than the runtime's default
	} {
		if percent, trim := tender.look(step.heap); percent != step.percent || trim != step.trim {
			t.Errorf("step %d: %d %%, %v, want %d %%, %v", i, percent, trim, step.percent, step.trim)
		}
	}
}

// What the tender changes in the runtime is as before when it has ended.
func TestTendHeapLeavesNoTrace(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetGCPercent(77)
	defer debug.SetGCPercent(before)
	ctx, cancel := context.WithTimeout(t.Context(), 2*quietTime+quietTime/2)
	defer cancel()
	tendHeap(ctx)
	if percent := debug.SetGCPercent(77); percent != 77 {
		t.Errorf("%d %%", percent)
	}
	if h := readHeap(); h.allocated == 0 {
		t.Errorf("%+v", h)
	}
	t.Setenv("GOGC", "100")
	start := time.Now()
	if tendHeap(t.Context()); time.Since(start) > time.Minute {
		t.Error("the environment has no say")
	}
}
