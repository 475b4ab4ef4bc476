package proxy

import (
	"testing"
	"time"
)

func TestClockWatch(t *testing.T) {
	var w clockWatch
	clock, own := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Now()
	for i, step := range []struct{ clock, own, want time.Duration }{
		{0, 0, 0},
		{time.Hour, time.Hour, 0},
		{time.Minute + 2*time.Second, time.Minute, 0}, // corrected slowly
		{time.Hour, time.Second, time.Hour - time.Second},
		{time.Second, time.Second, 0}, // told once
		{-time.Hour, time.Second, -time.Hour - time.Second},
		{-time.Millisecond, -time.Millisecond, 0}, // another session read it before
		{90_000 * time.Hour, time.Second, 90_000*time.Hour - time.Second},
	} {
		clock, own = clock.Add(step.clock), own.Add(step.own)
		if got := w.look(clock, own); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
}
