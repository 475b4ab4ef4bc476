package engine_test

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/proxy/store/redistest"
	"gatepost/proxy/store/storetest"
)

// Sixty-four sessions at a time, as rueidis puts them into shared pipelines.
func benchmark(b *testing.B, decide func(n int64) error) {
	b.ReportAllocs()
	b.SetParallelism(32)
	var count atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := decide(count.Add(1)); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkAttempt(b *testing.B) {
	e := open(b, config(redistest.Start(b, redistest.Options{}).Address), filters.SystemClock{})
	benchmark(b, func(n int64) error {
		domain := strconv.FormatInt(n%100_000, 10) + ".example"
		_, err := e.Attempt(b.Context(), "greylist", []string{"d:" + domain, "n:192.0.2.0/24|alice@" + domain}, storetest.Terms)
		return err
	})
}

func BenchmarkPeekOfAKnownSender(b *testing.B) {
	e := open(b, config(redistest.Start(b, redistest.Options{}).Address), filters.SystemClock{})
	if err := e.Pass(b.Context(), "greylist", keys, time.Hour); err != nil {
		b.Fatal(err)
	}
	benchmark(b, func(int64) error {
		_, err := e.Peek(b.Context(), "greylist", keys)
		return err
	})
}

func BenchmarkPeekOfAStranger(b *testing.B) {
	e := open(b, config(redistest.Start(b, redistest.Options{}).Address), filters.SystemClock{})
	benchmark(b, func(n int64) error {
		domain := strconv.FormatInt(n, 10) + ".example"
		_, err := e.Peek(b.Context(), "greylist", []string{"d:" + domain, "n:192.0.2.0/24|alice@" + domain})
		return err
	})
}
