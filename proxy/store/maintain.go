package store

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// maintain is the one goroutine that writes: batches, the sweep, and a fresh folder for a broken one.
func (s *Store) maintain() {
	defer close(s.stopped)
	interval := time.Duration(s.bounds.Load().Flush)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	sweep, sweepStandings := s.marksSweeper(), s.standingsSweeper()
	for {
		flushes := s.flushes
		if s.disk == nil {
			flushes = nil // nothing can be flushed until there is a folder
		}
		select {
		case <-ticker.C:
			s.repair()
			s.flush()
			sweep.step(interval)
			sweepStandings.step(interval)
			if now := time.Duration(s.bounds.Load().Flush); now != interval {
				interval = now
				ticker.Reset(interval)
			}
		case done := <-flushes:
			s.flush()
			close(done)
		case <-s.stop:
			s.shutDown()
			return
		}
	}
}

// batchRecords bounds a batch: about a megabyte.
const batchRecords = 10_000

// flush writes all dirty marks and standings. It returns when they are on disk, however long that takes.
func (s *Store) flush() {
	if s.disk == nil || s.marks.pending.Load() == 0 && !s.ledger.isDirty() {
		return
	}
	batch := s.disk.db.NewBatch()
	entries := s.entries.Load()
	s.writeStandings(batch, entries)
	var value []byte
	s.marks.takeDirty(func(record string, e entry) {
		switch {
		case !e.deleted:
			value = appendMark(value[:0], e.mark)
			_ = batch.Set([]byte(record), value, nil)
			if !e.onDisk {
				entries++
			}
		case e.onDisk:
			_ = batch.Delete([]byte(record), nil)
			entries--
		}
		if batch.Count() >= batchRecords {
			s.commit(batch, entries)
			batch.Reset()
		}
	})
	if !batch.Empty() {
		s.commit(batch, entries)
	}
	_ = batch.Close()
	s.marks.settle()
	s.ledger.settle()
	s.trouble.over()
}

// commit writes a batch and, with it, the number of marks that it leaves: nobody has to count them at start.
func (s *Store) commit(batch *pebble.Batch, entries int64) {
	_ = batch.Set(entriesKey, binary.AppendVarint(nil, entries), nil)
	_ = batch.Set(formatKey, binary.AppendVarint(nil, storeFormat), nil)
	_ = batch.Set(standingsKey, binary.AppendVarint(nil, s.ledger.entries.Load()), nil)
	count := batch.Count()
	if err := batch.Commit(pebble.Sync); err != nil {
		s.counts.dropped.Add(int64(count))
		s.trouble.note(fmt.Errorf("a batch of %d marks is lost: %w", count, err))
		return
	}
	s.entries.Store(entries)
}

// openMarks opens the folder of the marks, with a fresh one for one that is broken.
func (s *Store) openMarks() error {
	if err := tryWriting(s.fs, s.fs.PathJoin(s.config.Path, probeName)); err != nil {
		return err
	}
	folder := s.fs.PathJoin(s.config.Path, marksName)
	d, err := openDisk(s.fs, folder, s.log, s.trouble.note)
	if err != nil && isBroken(err) {
		if err := s.setAside(err); err != nil {
			return err
		}
		d, err = openDisk(s.fs, folder, s.log, s.trouble.note)
	}
	if err != nil {
		return err
	}
	s.entries.Store(d.count(entriesKey))
	s.ledger.entries.Store(d.count(standingsKey))
	s.mu.Lock()
	s.disk = d
	s.mu.Unlock()
	return nil
}

// openLater puts off what cannot be had at start: a full disk, or a folder that is not ours to read, must not keep mail
// from coming in. Marks are in memory until repair has opened the folder.
func (s *Store) openLater(err error) {
	s.trouble.note(err)
	s.retry = time.Now().Add(s.pause)
}

// repair puts a fresh folder in the place of a broken one, and opens one that could not be opened before. Decisions go
// on from memory meanwhile.
func (s *Store) repair() {
	if s.disk != nil && !s.disk.broken.Load() || time.Now().Before(s.retry) {
		return
	}
	if broken := s.disk; broken != nil {
		s.mu.Lock()
		s.disk = nil
		s.mu.Unlock()
		if err := broken.close(); err != nil {
			s.log.Warn("store: closing the broken folder", "error", err)
		}
		s.marks.forgetDisk()
		s.ledger.forgetDisk()
		if err := s.setAside(errBrokenFile); err != nil {
			s.openLater(err) // it will be set aside when it is opened
			return
		}
	}
	if err := s.openMarks(); err != nil {
		s.openLater(err)
		return
	}
	s.marks.meet(s.disk, s.now())
	s.trouble.over()
}

var errBrokenFile = fmt.Errorf("a file of it is broken")

// setAside renames the folder of the marks, so that a person can look at it, and removes all but the latest of those.
func (s *Store) setAside(why error) error {
	folder := s.fs.PathJoin(s.config.Path, marksName)
	date := s.clock.Now().UTC().Format("20060102T150405Z")
	aside := s.fs.PathJoin(s.config.Path, brokenName+date)
	for n := 2; ; n++ {
		if _, err := s.fs.Stat(aside); err != nil {
			break
		}
		aside = s.fs.PathJoin(s.config.Path, fmt.Sprintf("%s%s-%d", brokenName, date, n))
	}
	if err := s.fs.Rename(folder, aside); err != nil {
		return err
	}
	s.counts.setAside.Add(1)
	s.log.Error("store: the marks cannot be read; they are set aside: senders, exceptions and reputations are unknown until "+
		"they are learned anew, or `gatepost state import` brings back a backup", "error", why, "path", aside)
	names, err := s.fs.List(s.config.Path)
	if err != nil {
		return nil // the folder is set aside; the old ones can wait for the next time
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, brokenName) })
	slices.Sort(names)
	for _, old := range names[:max(0, len(names)-keepBroken)] {
		if err := s.fs.RemoveAll(s.fs.PathJoin(s.config.Path, old)); err != nil {
			s.log.Warn("store: removing marks set aside long ago", "error", err)
		}
	}
	return nil
}

// shutDown writes what is left and releases the folder.
func (s *Store) shutDown() {
	s.flush()
	if lost := s.marks.pending.Load(); s.disk == nil && lost > 0 {
		s.log.Error("store: the folder could not be opened until the end; marks are lost", "marks", lost)
	}
	if s.disk != nil {
		if err := s.disk.close(); err != nil {
			s.log.Error("store: closing", "error", err)
		}
	}
	if err := s.lock.Close(); err != nil {
		s.log.Error("store: releasing the folder", "error", err)
	}
}
