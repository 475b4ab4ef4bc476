// Package replay tells what rules would have done with mail that has come already.
//
//	journal ──► policy.Recording ──► policy.Player (the real Gate) ──► Play ──► what changed, and how bad that is
//	                                        │
//	                                  Simulation: greylisting and rate limits, which depend on what was decided before
//
// A [Backtest] is handed recordings in the order in which they were made and collects a [Report]. What would have been
// decided is found by running the real thing again (policy.Player), so that it cannot differ from what the rules will do.
//
// What filters found stands as it was recorded. Two of them have a memory. Greylisting: as long as the rules ask for the
// same attempts of a sender as they did then, what the greylister answered then stands, also where the journal begins in
// the middle of a sender's history. From the first difference on, the real filter is asked, over a store in memory and a
// clock that follows the journal (greylist.go). Where it cannot be told whether an attempt was made, nothing is told of the
// same sender's next ones either. Rate limits: what was recorded stands for a limit that is the same as then, until something
// is counted otherwise, or may be. Then, and for other limits, the real filter counts the recorded connections, recipients
// and messages anew, twice: all that may have come, and what surely has (limits.go, counts.go). Where the two say not the
// same it cannot be told.
package replay
