package backend

import (
	"testing"
	"time"
)

// TestMoment: a clock that was set moves neither what is ahead nor what is over.
func TestMoment(t *testing.T) {
	now := time.Now()
	var m moment
	if m.ahead(now) {
		t.Error("no moment is ahead")
	}
	m.set(now.Add(time.Second))
	if !m.ahead(now) || m.ahead(now.Add(time.Second)) {
		t.Error("a second ahead")
	}
	m.set(now.AddDate(0, 0, 1)) // keeps no count of its own: by the clock
	if !m.ahead(now) {
		t.Error("a day ahead")
	}
	m.set(time.Time{})
	if m.ahead(now) {
		t.Error("it is over")
	}
}
