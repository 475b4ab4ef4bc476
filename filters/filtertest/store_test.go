package filtertest

import (
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/filters"
)

var terms = filters.Terms{Delay: 5 * time.Minute, Window: 24 * time.Hour, Keep: 35 * 24 * time.Hour}

func attempt(t *testing.T, s *Store, keys ...string) []filters.Mark {
	t.Helper()
	marks, err := s.Attempt(t.Context(), "greylist", keys, terms)
	if err != nil {
		t.Fatal(err)
	}
	return marks
}

func peek(t *testing.T, s *Store, key string) filters.Mark {
	t.Helper()
	marks, err := s.Peek(t.Context(), "greylist", []string{key})
	if err != nil {
		t.Fatal(err)
	}
	return marks[0]
}

func TestStoreAttempts(t *testing.T) {
	clock := NewClock()
	s := NewStore(clock)
	first := attempt(t, s, "a")[0]
	if want := (filters.Mark{First: Start, Last: Start, Expires: Start.Add(terms.Window), Attempts: 1}); first != want {
		t.Errorf("first attempt: %+v, want %+v", first, want)
	}
	clock.Advance(terms.Delay - 1)
	if m := attempt(t, s, "a")[0]; !m.Passed.IsZero() || m.Attempts != 2 || m.Expires != first.Expires {
		t.Errorf("early attempt: %+v", m)
	}
	clock.Advance(1)
	marks := attempt(t, s, "b", "a")
	for i, m := range marks {
		if m.Passed != clock.Now() || m.Expires != clock.Now().Add(terms.Keep) {
			t.Errorf("key %d did not pass with the others: %+v", i, m)
		}
	}
	clock.Advance(time.Hour)
	if m := attempt(t, s, "c", "b")[0]; m.Passed != clock.Now() {
		t.Errorf("a key did not pass along with one that had: %+v", m)
	}
	if m := peek(t, s, "b"); m.Passed != clock.Now().Add(-time.Hour) || m.Last != clock.Now() {
		t.Errorf("a pass was not kept and renewed: %+v", m)
	}
}

func TestStoreWindowEnds(t *testing.T) {
	clock := NewClock()
	s := NewStore(clock)
	attempt(t, s, "a")
	clock.Advance(terms.Window)
	if m := peek(t, s, "a"); m.Exists() {
		t.Errorf("expired mark exists: %+v", m)
	}
	if m := attempt(t, s, "a")[0]; m.Attempts != 1 || !m.Passed.IsZero() {
		t.Errorf("attempt after the window was not a first one: %+v", m)
	}
}

func TestStorePassForgetRange(t *testing.T) {
	clock := NewClock()
	s := NewStore(clock)
	long := strings.Repeat("k", 1000)
	if err := s.Pass(t.Context(), "client", []string{"v4:a", "v4:b", "v6:c", long}, time.Hour); err != nil {
		t.Fatal(err)
	}
	attempt(t, s, "v4:other")
	seen := map[string]bool{}
	err := s.Range(t.Context(), "client", "v4:", func(key string, m filters.Mark) bool {
		seen[key] = true
		_, err := s.Forget(t.Context(), "client", []string{key})
		return err == nil
	})
	if err != nil || len(seen) != 2 || !seen["v4:a"] || !seen["v4:b"] {
		t.Errorf("range gave %v, %v", seen, err)
	}
	if n, _ := s.Forget(t.Context(), "client", []string{"v4:a", "v6:c", long}); n != 2 {
		t.Errorf("%d marks were forgotten, want 2", n)
	}
}

func TestStoreIsBounded(t *testing.T) {
	clock := NewClock()
	s := NewStore(clock)
	keys := make([]string, maxMarks)
	for i := range keys {
		keys[i] = time.Duration(i).String()
	}
	if err := s.Pass(t.Context(), "client", keys, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := s.Pass(t.Context(), "client", []string{"more"}, time.Hour); err == nil {
		t.Error("a full store took another mark")
	}
	clock.Advance(time.Hour)
	if err := s.Pass(t.Context(), "client", []string{"more"}, time.Hour); err != nil {
		t.Errorf("a store full of expired marks: %v", err)
	}
}

func TestStoreAttemptsAreAtomic(t *testing.T) {
	s := NewStore(NewClock())
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { attempt(t, s, "a") })
	}
	wg.Wait()
	if m := peek(t, s, "a"); m.Attempts != 50 {
		t.Errorf("%d attempts counted, want 50", m.Attempts)
	}
}
