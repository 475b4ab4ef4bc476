package telemetry

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// writes keeps what was written, call by call.
type writes struct {
	calls []string
	err   error
}

func (w *writes) Write(p []byte) (int, error) {
	w.calls = append(w.calls, string(p))
	return len(p), w.err
}

func TestGatherer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w writes
		g := NewGatherer(&w)
		say := func(lines ...string) {
			for _, line := range lines {
				if n, err := g.Write([]byte(line)); n != len(line) || err != nil {
					t.Fatal(n, err)
				}
			}
		}
		want := func(calls ...string) {
			t.Helper()
			synctest.Wait() // for the timer's goroutine
			g.mu.Lock()
			defer g.mu.Unlock()
			if strings.Join(w.calls, "|") != strings.Join(calls, "|") {
				t.Fatalf("written %q, want %q", w.calls, calls)
			}
		}
		say("alone\n")
		want("alone\n")
		say("b\n", "c\n")
		want("alone\n")
		time.Sleep(gap + 1)
		want("alone\n", "b\nc\n")
		say("d\n")
		want("alone\n", "b\nc\n")
		time.Sleep(gap + 1)
		want("alone\n", "b\nc\n", "d\n")
		time.Sleep(gap + 1)
		say("e\n")
		want("alone\n", "b\nc\n", "d\n", "e\n")
		w.calls = nil
		long := strings.Repeat("x", maxGathered/2) + "\n"
		say(long, long)
		want(long + long)
		say("f\n")
		g.Close()
		say("g\n")
		want(long+long, "f\n", "g\n")
		w.err = errors.New("full")
		if _, err := g.Write([]byte("h\n")); err != w.err {
			t.Error(err)
		}
	})
}

func TestGathererLosesNothing(t *testing.T) {
	var w writes
	g := NewGatherer(&w)
	var wg sync.WaitGroup
	for who := range 8 {
		wg.Go(func() {
			for n := range 1000 {
				fmt.Fprintf(g, "%d %d\n", who, n)
			}
		})
	}
	wg.Wait()
	g.Close()
	next := map[int]int{}
	for line := range strings.Lines(strings.Join(w.calls, "")) {
		var who, n int
		if _, err := fmt.Sscanf(line, "%d %d\n", &who, &n); err != nil || next[who] != n {
			t.Fatalf("%q, want %d %d", line, who, next[who])
		}
		next[who]++
	}
	for who := range 8 {
		if next[who] != 1000 {
			t.Errorf("%d lines of %d", next[who], who)
		}
	}
}
