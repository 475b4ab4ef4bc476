package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"gatepost/filters"
)

// The folder of the store: the lock, the marks, and marks that were set aside.
const (
	lockName   = "LOCK"
	marksName  = "marks"
	brokenName = marksName + ".corrupt-"
	keepBroken = 3
	probeName  = "probe"
)

// ErrOwned is wrapped by Open's error when another process owns the folder.
var ErrOwned = errors.New("another gatepost owns it: stop that one, or ask it over its control socket")

// disk is the open database. Its methods are safe for concurrent use, but for close.
type disk struct {
	db       *pebble.DB
	patience *patience
	broken   atomic.Bool // a record or file cannot be read: set aside
}

// openDisk opens the marks in folder, or makes them.
func openDisk(fs vfs.FS, folder string, log *slog.Logger, failing func(error)) (d *disk, err error) {
	d = &disk{patience: &patience{pause: 200 * time.Millisecond, failing: failing}}
	logger := &pebbleLog{log: log}
	logger.opening.Store(true)
	options := &pebble.Options{
		FS:                          &patientFS{FS: fs, patience: d.patience},
		Logger:                      logger,
		CacheSize:                   16 << 20,
		MemTableSize:                4 << 20,
		MemTableStopWritesThreshold: 4,
		MaxOpenFiles:                200,
		FormatMajorVersion:          pebble.FormatWALSyncChunks,
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { log.Error("store: background work failed, trying again", "error", err) },
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				d.broken.Store(true)
				log.Error("store: a file is broken", "path", info.Path, "error", info.Details)
			},
		},
	}
	for i := range options.Levels {
		options.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	if err := inspect(fs, folder, log); err != nil {
		return nil, err
	}
	defer func() {
		// Pebble calls Fatalf, or panics, for some of what it finds in a garbled folder.
		if r := recover(); r != nil {
			if failed, isError := r.(error); isError {
				d, err = nil, failed
			} else {
				d, err = nil, fmt.Errorf("%v", r)
			}
		}
	}()
	if d.db, err = pebble.Open(folder, options); err != nil {
		return nil, err
	}
	if err := d.checkFormat(); err != nil {
		return nil, errors.Join(err, d.db.Close())
	}
	logger.opening.Store(false)
	d.patience.steadfast.Store(true)
	return d, nil
}

// isBroken tells a folder that cannot be read from a machine that does not let us read it now, and from a release that
// does not know how.
func isBroken(err error) bool {
	for _, no := range [...]error{ErrNewer, syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.ENOSPC, syscall.EDQUOT,
		syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, no) {
			return false
		}
	}
	return true
}

// cannotRead notes an error of a read. What passes, such as too few descriptors, does not break the folder.
func (d *disk) cannotRead(err error) {
	if err != nil && isBroken(err) {
		d.broken.Store(true)
	}
}

// read returns the mark under record. A record that cannot be read is as if it were not there, and marks the disk as
// broken; exists tells that there is a record, even one of no use.
func (d *disk) read(record string) (m filters.Mark, exists bool) {
	value, closer, err := d.db.Get([]byte(record))
	if err != nil {
		if !errors.Is(err, pebble.ErrNotFound) {
			d.cannotRead(err)
		}
		return filters.Mark{}, false
	}
	m, _ = parseMark(value)
	_ = closer.Close()
	return m, true
}

// count reads a number of records that the last batch left.
func (d *disk) count(key []byte) int64 {
	value, closer, err := d.db.Get(key)
	if err != nil {
		return 0
	}
	defer closer.Close()
	n, size := binary.Varint(value)
	if size <= 0 || n < 0 {
		return 0
	}
	return n
}

// walk calls yield for at most limit records from start on, before end (nil: no end); it returns where to go on, or
// nil at the end. Key and value are good until yield returns.
func (d *disk) walk(start, end []byte, limit int, yield func(record, value []byte)) (next []byte) {
	it, err := d.db.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: end})
	if err != nil {
		d.cannotRead(err)
		return nil
	}
	defer func() { d.cannotRead(it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		if limit == 0 {
			return append([]byte(nil), it.Key()...)
		}
		limit--
		value, err := it.ValueAndErr()
		if err != nil {
			d.cannotRead(err)
			return nil
		}
		yield(it.Key(), value)
	}
	return nil
}

// close closes the database. It does not return while the disk refuses to be written.
func (d *disk) close() error { return d.db.Close() }

// pebbleLog hands pebble's log lines to slog.
type pebbleLog struct {
	log     *slog.Logger
	opening atomic.Bool
}

func (l *pebbleLog) Infof(format string, args ...any) {
	l.log.Debug("store: " + strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (l *pebbleLog) Errorf(format string, args ...any) {
	l.log.Error("store: " + strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// Fatalf must not return. While opening, it makes Open fail. Later, ending the process would take the mail along: the
// one goroutine stops here, for good, reads go on, and marks live in memory until the next start.
func (l *pebbleLog) Fatalf(format string, args ...any) {
	text := strings.TrimSpace(fmt.Sprintf(format, args...))
	if l.opening.Load() {
		panic(errors.New(text))
	}
	l.log.Error("store: writing has stopped; new marks are lost at the next start: restart gatepost", "error", text)
	select {}
}
