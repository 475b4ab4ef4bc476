package front

import "sync/atomic"

// Replaceable counts who uses it, to be in force being one use; see [Uses].
type Replaceable interface {
	Acquire() bool // false: the last user is gone
	Release()
}

// InForce is what those who come now work with; those who came before may still use what was in force then. It is safe for
// concurrent use.
type InForce[R Replaceable] struct{ now atomic.Pointer[R] }

// Begin puts the first in force. Call it once, before all else.
func (f *InForce[R]) Begin(first R) { f.now.Store(&first) }

// Acquire returns what is in force, used once more: it has to be released. false: nothing is, behind End.
func (f *InForce[R]) Acquire() (r R, ok bool) {
	for {
		now := f.now.Load()
		if now == nil {
			return r, false
		}
		if (*now).Acquire() {
			return *now, true
		}
	}
}

// Replace puts next in force, and releases what was. Behind End it only releases next.
func (f *InForce[R]) Replace(next R) {
	for {
		before := f.now.Load()
		if before == nil {
			next.Release()
			return
		}
		if f.now.CompareAndSwap(before, &next) {
			(*before).Release()
			return
		}
	}
}

// End releases what is in force. Nothing comes into force any more.
func (f *InForce[R]) End() {
	if last := f.now.Swap(nil); last != nil {
		(*last).Release()
	}
}
