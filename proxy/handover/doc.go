// Package handover moves what one process alone may own from a gatepost to its successor, while the sessions of both go on.
//
// # The link
//
// Predecessor and successor share a pair of UNIX sockets; nobody else has an end of it. A [Link] carries frames on it: a
// length, a number, a kind, a name, and a body (encoding/gob: keys of the store are bytes, and fields may be added). Either
// end may call the other. Frames are bounded, every write has a deadline, calls under way are bounded, and the link ends
// with either process.
//
// # The hand-over
//
// The successor drives, so that each of its failures is the end of a call or of the link, and the predecessor goes on:
//
//	successor                                     predecessor
//	────────                                      ───────────
//	loads and compiles the configuration,
//	has its sockets, has asked the backends
//	release ───────────────────────────────────▶  what decides waits; closes store, journal, quarantine
//	opens them; serves, and has tried it  ◀─────  what it left in memory
//	served ────────────────────────────────────▶  asks the successor from now on; accepts nobody any more
//	                                      ◀─────  store.…, meter.…, journal, keep, news: until its last session ends
//
// Until `served` is answered the predecessor can take everything back: it ends the successor first, and waits for its end.
//
// # Who owns what
//
// A [Seat] is where the owner of something sits. Sessions ask whoever sits there; while nobody does they wait, as long as
// their own budget lets them. So nothing that was decided is lost between the two, and nothing is decided twice.
package handover
