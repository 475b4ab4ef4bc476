package journal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"gatepost/proxy/front"
)

// One process owns the folder of a journal. Another, which has owned it or is going to, keeps its entries in memory within
// journal.queue, or gives its blocks to the owner.

// Own takes the folder, and writes what waits. The error wraps [front.ErrOwned] while another process has it.
func (j *Journal) Own() error {
	j.owning.Lock()
	defer j.owning.Unlock()
	// A second process would write between our blocks, and cut the tail that this one is writing.
	lock, err := front.LockFile(filepath.Join(j.config.Load().Path, lockName))
	if errors.Is(err, front.ErrOwned) {
		return fmt.Errorf("journal: %w: another gatepost writes this journal: stop that one, or give this one another journal.path", err)
	} else if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := j.prepare(); err != nil {
		return errors.Join(fmt.Errorf("journal: %w", err), lock.Close())
	}
	j.lock = lock
	j.begin(j.write)
	return nil
}

// Forward gives all that waits and all that comes to take, block by block, at most half a second after it came. A block
// that take refuses is lost, and counted.
func (j *Journal) Forward(take func(Parcel) error) {
	j.owning.Lock()
	defer j.owning.Unlock()
	j.begin(func(closing, done chan struct{}) { j.forward(closing, done, take) })
}

// begin starts a writer; owning is held.
func (j *Journal) begin(write func(closing, done chan struct{})) {
	j.closing, j.done = make(chan struct{}), make(chan struct{})
	go write(j.closing, j.done)
	select { // for what came while there was none
	case j.wake <- struct{}{}:
	default:
	}
}

// closeLimit bounds how long Release waits for the disk.
const closeLimit = 10 * time.Second

// Release writes what is in memory, ends the writer, and lets the folder go. What the disk does not take in ten seconds is
// lost. Entries that come later wait.
func (j *Journal) Release() error {
	j.owning.Lock()
	defer j.owning.Unlock()
	if j.closing == nil {
		return nil
	}
	close(j.closing)
	j.closing = nil
	patience := time.NewTimer(closeLimit)
	defer patience.Stop()
	select {
	case <-j.done:
	case <-patience.C:
		return fmt.Errorf("journal: %s: the disk does not answer; the last entries are lost", j.config.Load().Path)
	}
	if j.lock == nil {
		return nil
	}
	lock := j.lock
	j.lock = nil
	return lock.Close()
}

// Parcel is some entries, packed, of the same format as this release's files.
type Parcel struct {
	Format     int // of the file that it belongs into
	Head, Body []byte
	Entries    int
}

// maxBlock bounds what is taken of others.
const maxBlock = 8 << 20

// Append takes a block of another process.
func (j *Journal) Append(b Parcel) error {
	switch {
	case b.Format != formatVersion:
		return fmt.Errorf("journal: a block of format %d, and this release writes %d", b.Format, formatVersion)
	case b.Entries < 1 || len(b.Head)+len(b.Body) > maxBlock:
		return errors.New("journal: that is no block")
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed || j.queued+int64(len(b.Body)) > int64(j.config.Load().Queue) {
		j.dropped += int64(b.Entries)
		j.metrics.Dropped.Add(int64(b.Entries))
		return errors.New("journal: no room for another block")
	}
	j.waiting = append(j.waiting, sealed{head: b.Head, body: b.Body, entries: b.Entries})
	j.queued += int64(len(b.Body))
	j.metrics.Records.Add(int64(b.Entries))
	select {
	case j.wake <- struct{}{}:
	default:
	}
	return nil
}

// forward is the writer of who does not own the folder.
func (j *Journal) forward(closing, done chan struct{}, take func(Parcel) error) {
	defer close(done)
	flush := time.NewTimer(flushInterval)
	defer flush.Stop()
	for ended := false; !ended; {
		select {
		case <-j.turns:
			continue
		case <-j.wake:
			continue // the timer is never further away than an entry may wait
		case <-flush.C:
			flush.Reset(flushInterval)
		case <-closing:
			ended = true
		}
		j.mu.Lock()
		j.seal()
		waiting := j.waiting
		j.waiting, j.queued = nil, 0
		j.metrics.Queued.Store(0)
		j.mu.Unlock()
		for _, b := range waiting {
			if err := take(Parcel{Format: formatVersion, Head: b.head, Body: b.body, Entries: b.entries}); err != nil {
				j.lose(b)
			}
		}
		j.complain()
	}
}

func (j *Journal) lose(b sealed) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.dropped += int64(b.entries)
	j.metrics.Dropped.Add(int64(b.entries))
}

// Turn returns when the writer has come round: it is not stuck. A writer whose disk fails, and who knows, has.
func (j *Journal) Turn(ctx context.Context) error {
	j.owning.Lock()
	done := j.done
	j.owning.Unlock()
	if done == nil {
		return nil
	}
	select {
	case j.turns <- struct{}{}:
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("journal: the writer is stuck: %w", ctx.Err())
	}
	return nil
}
