package journal

import "time"

const (
	retryInterval    = time.Second
	housekeeping     = 10 * time.Minute // how often an idle journal looks for entries whose time is up
	complainInterval = time.Minute
)

// write is the writer: it owns the files. It sleeps while there is nothing to write.
func (j *Journal) write(closing, done chan struct{}) {
	defer close(done)
	flush := time.NewTimer(flushInterval)
	flush.Stop()
	armed := false
	keep := time.NewTicker(housekeeping)
	defer keep.Stop()
	for {
		select {
		case <-j.turns:
		case <-j.wake:
			if !armed {
				flush.Reset(flushInterval)
				armed = true
			}
			if j.failing.IsZero() { // a disk that fails is tried by the timer alone
				j.writeWaiting()
			}
		case <-flush.C:
			armed = !j.flush()
			if armed {
				flush.Reset(retryInterval)
			}
		case <-keep.C:
			now := j.clock.Now()
			j.retire(now)
			j.repeatRules(now)
		case <-closing:
			flush.Stop()
			if !j.flush() {
				j.abandon()
			}
			j.closeSegment()
			return
		}
	}
}

// flush writes all there is and syncs it.
func (j *Journal) flush() (ok bool) {
	j.mu.Lock()
	j.seal()
	j.mu.Unlock()
	if !j.writeWaiting() {
		j.complain()
		return false
	}
	if j.open != nil {
		if err := j.open.file.Sync(); err != nil {
			j.open.failed = true // what the kernel has thrown away is told once only
			j.failed("sync", err)
			j.complain()
			return true
		}
	}
	j.complain()
	return true
}

// abandon gives up what the disk did not take before the end.
func (j *Journal) abandon() {
	j.mu.Lock()
	for _, block := range j.waiting {
		j.dropped += int64(block.entries)
		j.metrics.Dropped.Add(int64(block.entries))
	}
	j.waiting, j.queued = nil, 0
	j.mu.Unlock()
	j.complain()
}

// writeWaiting writes the blocks that are ready. False: the disk does not take them now.
func (j *Journal) writeWaiting() (ok bool) {
	for {
		j.mu.Lock()
		if len(j.waiting) == 0 {
			j.mu.Unlock()
			return true
		}
		block := j.waiting[0]
		j.mu.Unlock()
		if err := j.writeBlock(block); err != nil {
			j.failed("write", err)
			return false
		}
		j.mu.Lock()
		j.waiting = j.waiting[1:]
		if len(j.waiting) == 0 {
			j.waiting = nil
		}
		j.queued -= int64(len(block.body))
		if cap(block.body) <= 2*blockSize {
			j.spare = block.body
		}
		j.metrics.Queued.Store(j.queued)
		j.mu.Unlock()
		j.recovered()
	}
}

func (j *Journal) writeBlock(b sealed) error {
	now := j.clock.Now()
	if j.open != nil && j.open.done(now, min(maxSegment, int64(j.config.Load().Size)/8)) {
		j.closeSegment()
	}
	if j.open == nil {
		j.retire(now)
		open, err := newSegment(j.disk, j.config.Load().Path, j.number, now, b.body)
		j.number++ // also of one that failed: half of it may be there
		if err != nil {
			return err
		}
		j.open = open
	}
	before := j.open.size
	if err := j.open.append(b.head, b.body, now); err != nil {
		return err
	}
	j.metrics.Blocks.Add(1)
	j.metrics.Bytes.Add(j.open.size - before)
	j.metrics.Disk.Add(j.open.size - before)
	return nil
}

// closeSegment ends the open file.
func (j *Journal) closeSegment() {
	if j.open == nil {
		return
	}
	if err := j.open.file.Sync(); err != nil {
		j.failed("sync", err)
	}
	if err := j.open.file.Close(); err != nil {
		j.failed("close", err)
	}
	j.segments = append(j.segments, j.open.segment)
	j.open = nil
}

// retire removes the oldest files whose time is up, and those for which there is no room.
func (j *Journal) retire(now time.Time) {
	total := int64(0)
	if j.open != nil {
		total = j.open.size
	}
	for i := range j.segments {
		total += j.segments[i].size
	}
	expired := now.Add(-time.Duration(j.config.Load().Keep))
	size := int64(j.config.Load().Size)
	room := size - size/8 // the open file needs the rest
	for len(j.segments) > 0 && (j.segments[0].newest.Before(expired) || total > room) {
		oldest := j.segments[0]
		if err := j.disk.Remove(oldest.path); err != nil {
			j.failed("remove", err)
			break
		}
		j.segments = j.segments[1:]
		total -= oldest.size
		j.metrics.Removed.Add(1)
		j.log.Info("journal: a file was removed", "file", oldest.name, "bytes", oldest.size, "expired", oldest.newest.Before(expired))
	}
	j.metrics.Segments.Store(int64(len(j.segments)))
	j.metrics.Disk.Store(total)
}

// failed notes that the disk did not do what it was asked for. It is said at once, and then once a minute.
func (j *Journal) failed(what string, err error) {
	j.metrics.Errors.Add(1)
	now := time.Now()
	if what == "write" && j.failing.IsZero() {
		j.failing = now
	}
	if now.Sub(j.warned) >= complainInterval {
		j.warned = now
		j.log.Error("journal: the disk fails; mail goes on, and entries wait in memory", "what", what, "path", j.config.Load().Path, "error", err)
	}
}

func (j *Journal) recovered() {
	if !j.failing.IsZero() {
		j.log.Info("journal: the disk takes entries again", "failed_for", time.Since(j.failing).Round(time.Millisecond))
		j.failing, j.warned = time.Time{}, time.Time{}
	}
}

// complain says how many entries were dropped since it did so last.
func (j *Journal) complain() {
	j.mu.Lock()
	dropped := j.dropped
	j.dropped = 0
	j.mu.Unlock()
	if dropped > 0 {
		j.log.Error("journal: entries were dropped: the disk did not take them, and memory has no room for more (journal.queue) or came to its end", "dropped", dropped)
	}
}
