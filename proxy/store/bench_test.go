package store

import (
	"fmt"
	"testing"
	"time"

	"gatepost/filters"
)

// million returns a store with 1,000,000 marks.
func million(b *testing.B) *Store {
	b.Helper()
	config := testConfig(b)
	s := openTest(b, config, filters.SystemClock{})
	for i := range 10_000 {
		keys := make([]string, 100)
		for j := range keys {
			keys[j] = benchKey(i*100 + j)
		}
		if err := s.Pass(b.Context(), "greylist", keys, time.Hour); err != nil {
			b.Fatal(err)
		}
		if i%500 == 0 {
			if err := s.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := s.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	return s
}

func benchKey(i int) string {
	return fmt.Sprintf("n:192.0.%d.0/24|sender%07d@example.org", i%256, i*7919%1_000_000)
}

func BenchmarkPeek(b *testing.B) {
	s := million(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		keys := []string{benchKey(i * 613 % 1_000_000), "d:unknown.example.org"}
		if _, err := s.Peek(b.Context(), "greylist", keys); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAttempt(b *testing.B) {
	s := million(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		keys := []string{benchKey(i * 613 % 1_000_000), "d:example.org"}
		if _, err := s.Attempt(b.Context(), "greylist", keys, terms); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFirstAttempt is what a stranger costs who is greylisted: a look at MAIL, the attempt at RCPT.
func BenchmarkFirstAttempt(b *testing.B) {
	s := million(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		keys := []string{fmt.Sprintf("stranger-%d", i%50_000)}
		if _, err := s.Peek(b.Context(), "greylist", keys); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Attempt(b.Context(), "greylist", keys, terms); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	s := million(b)
	config := s.config
	for b.Loop() {
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		var err error
		if s, err = Open(config, filters.SystemClock{}, quiet()); err != nil {
			b.Fatal(err)
		}
	}
	if n := s.Stats().Entries; n != 1_000_000 {
		b.Errorf("%d entries", n)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
