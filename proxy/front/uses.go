package front

import "sync/atomic"

// Uses counts who uses something that can be replaced while it is in use, so that the last one can clear it away. It is
// safe for concurrent use.
type Uses struct{ n atomic.Int64 }

// Begin counts the first user: whoever has it in force.
func (u *Uses) Begin() { u.n.Store(1) }

// Acquire adds a user; it fails when the last one is gone already.
func (u *Uses) Acquire() bool {
	for {
		n := u.n.Load()
		if n == 0 {
			return false
		}
		if u.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release ends a use; last tells that it was the last.
func (u *Uses) Release() (last bool) { return u.n.Add(-1) == 0 }
