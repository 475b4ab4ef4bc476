package quarantine

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
)

// TestReload makes a quarantine larger, and its messages go sooner: not before the log has told.
func TestReload(t *testing.T) {
	h := open(t, Options{})
	c := h.config
	c.Size = 1 << 20
	h.Reload(c)
	text := strings.Repeat("x", 2<<20)
	if err := h.Keep(entry(idOf(1)), bytes.NewReader([]byte(text)), int64(len(text))); !errors.Is(err, ErrFull) {
		t.Errorf("there was room: %v", err)
	}
	c.Size = 8 << 20
	c.Keep, c.Warn = filters.Duration(2*time.Hour), filters.Duration(time.Hour)
	h.Reload(c)
	h.keep(t, entry(idOf(2)), text)
	h.clock.Advance(3 * time.Hour)
	h.sweep()
	if got := h.ids(t); len(got) != 1 {
		t.Errorf("removed before the log told: %v", got)
	}
	h.clock.Advance(time.Hour)
	h.sweep()
	if got := h.ids(t); len(got) != 0 || h.Stats().Limit != 8<<20 {
		t.Errorf("%v, %+v", got, h.Stats())
	}
}
