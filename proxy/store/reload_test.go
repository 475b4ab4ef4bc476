package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// TestReload gives a full store more room, and a store that runs another rhythm.
func TestReload(t *testing.T) {
	config := testConfig(t)
	config.MaxEntries, config.Flush = 1000, filters.Duration(10*time.Millisecond)
	s := openTest(t, config, filtertest.NewClock())
	var err error
	for i := 0; err == nil && i < 5000; i++ {
		_, err = s.Attempt(t.Context(), "greylist", []string{fmt.Sprint("new", i)}, terms)
	}
	if !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	config.MaxEntries, config.Flush = 10_000, filters.Duration(20*time.Millisecond)
	s.Reload(config)
	if _, err := s.Attempt(t.Context(), "greylist", []string{"one more"}, terms); err != nil {
		t.Error(err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}
