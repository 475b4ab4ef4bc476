package policy

import (
	"sync/atomic"
	"time"
)

// Bypass is the panic button: while it is on, terminal actions are recorded as observed and not taken. A transaction
// keeps what was in force at its MAIL, lest half of its recipients be greylisted. The zero Bypass is off; it is safe
// for concurrent use.
type Bypass struct{ until atomic.Pointer[time.Time] }

// Until returns when the bypass ends by itself, the zero time if it was never on or was switched off.
func (b *Bypass) Until() time.Time {
	if until := b.until.Load(); until != nil {
		return *until
	}
	return time.Time{}
}

// Set switches the bypass on until the given time; a time that has passed, such as the zero time, switches it off.
func (b *Bypass) Set(until time.Time) { b.until.Store(&until) }

// on asks for the time only if it matters.
func (b *Bypass) on(now func() time.Time) bool {
	if b == nil {
		return false
	}
	until := b.Until()
	return !until.IsZero() && now().Before(until)
}
