package journal

import "sync/atomic"

// Metrics counts what the journal does. Every field is safe for concurrent use. Records to Mended only grow.
type Metrics struct {
	Records atomic.Int64 // sessions and transactions taken up
	Dropped atomic.Int64 // entries lost: the disk did not take them in time
	Blocks  atomic.Int64 // written
	Bytes   atomic.Int64 // written
	Errors  atomic.Int64 // failed attempts to write, sync or remove
	Removed atomic.Int64 // segments removed, for their age or for room
	Mended  atomic.Int64 // segments that were found torn, or of which nothing could be read

	Queued   atomic.Int64 // bytes of entries in memory now, before they are compressed
	Segments atomic.Int64 // files now
	Disk     atomic.Int64 // bytes on disk now
}
