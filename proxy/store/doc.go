// Package store is the site's memory, embedded: marks under keys on disk (cockroachdb/pebble), behind [filters.Store].
//
// # How it works
//
// A decision (Peek, Attempt, Pass, Forget) locks the shards of its keys in order, reads each mark from memory or, where
// memory has none, from disk, and leaves what it changed in memory:
//
//	decision ──> shards ──(every flush interval, one owner)──> batch, synced ──> pebble
//	               │ changed marks: dirty, then flushing until the batch is on disk
//	               └ everything else is read through; pebble's block cache is the cache
//
// So a decision never waits for a write, and a kill at any moment forgets at most what was decided since the last
// batch: a flush interval and the time of one commit, well under a second.
//
// # When the disk fails
//
// Pebble ends the process when it cannot write. Therefore it never learns: [patientFS] repeats a failed write until it
// succeeds, and a full disk is nothing but a slow one. Meanwhile decisions go on from memory, in a bounded set
// (max_pending); beyond it, a decision that had to be remembered is an error, and mail passes without it rather than
// being told to come back for ever. A read that hangs ends with the caller's context.
//
// The same goes for a folder that cannot be opened at start, for want of room or of permission: decisions go on from
// memory, and what they left meets what is on disk when that can be opened.
//
// A broken folder, found at start or while running, is set aside under a name with the date and a fresh one takes its
// place: the memory of a greylist is worth less than the mail.
//
// # Versions
//
// Values begin with a version; what is added behind them is passed over. A release writes only what the one before it can
// read. A folder with a higher format than is known is refused with [ErrNewer], and left alone.
//
// # Bounds
//
// Entries are bounded by max_entries. An expired mark does not exist for readers at once, and is deleted by a sweep in
// small steps. Above the bound the marks that would expire soonest go first: first attempts before passes, since those
// live for hours and these for weeks. If marks come faster than they can go, and the set is a tenth above its bound,
// new ones are refused with [ErrFull] until there is room.
//
// # Ownership
//
// One process owns a folder, by a lock on its file LOCK. A successor waits for the owner's Close, which writes what is
// in memory and lets the lock go, and then opens; [ErrOwned] tells it to wait. Everybody else asks the owner over its
// control socket.
package store
