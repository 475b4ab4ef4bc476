package store

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// patientFS repeats failed writes until they succeed. Pebble takes a failed write for fatal and ends the process
// (Logger.Fatalf, or a panic while it holds its locks); so to pebble a full or failing disk is a slow one. Reads and
// removals are passed on as they are: pebble copes with their errors.
//
// A write that was repeated may have lost what an earlier sync could not write. Pebble's checksums find that at the
// next start, and the folder is set aside: marks are lost, nothing is misread.
type patientFS struct {
	vfs.FS
	patience *patience
}

// patience decides how long a failed write is repeated, and keeps account.
type patience struct {
	steadfast atomic.Bool // false while opening, when errors are for the operator, and after giving up
	pause     time.Duration
	failing   func(err error) // told of every failure
}

func (p *patience) repeat(write func() error) error {
	for {
		err := write()
		if err == nil || !p.steadfast.Load() || errors.Is(err, os.ErrClosed) {
			return err
		}
		p.failing(err)
		time.Sleep(p.pause)
	}
}

func open[F any](p *patience, create func() (F, error)) (file F, err error) {
	err = p.repeat(func() (err error) {
		file, err = create()
		return err
	})
	return file, err
}

func (f *patientFS) wrap(file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &patientFile{File: file, patience: f.patience}, nil
}

func (f *patientFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return f.wrap(open(f.patience, func() (vfs.File, error) { return f.FS.Create(name, category) }))
}

func (f *patientFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, options ...vfs.OpenOption) (vfs.File, error) {
	return f.wrap(open(f.patience, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, category, options...) }))
}

// ReuseForWrite is repeated as a Create: the first half of the reuse may have happened.
func (f *patientFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(oldname, newname, category)
	if err != nil {
		return f.Create(newname, category)
	}
	return f.wrap(file, nil)
}

func (f *patientFS) OpenDir(name string) (vfs.File, error) {
	return f.wrap(open(f.patience, func() (vfs.File, error) { return f.FS.OpenDir(name) }))
}

func (f *patientFS) Rename(oldname, newname string) error {
	return f.patience.repeat(func() error { return f.FS.Rename(oldname, newname) })
}

func (f *patientFS) MkdirAll(dir string, perm os.FileMode) error {
	return f.patience.repeat(func() error { return f.FS.MkdirAll(dir, perm) })
}

// Lock does nothing: the store holds its own lock, above the folder that it may have to set aside.
func (f *patientFS) Lock(string) (io.Closer, error) { return noLock{}, nil }

func (f *patientFS) Unwrap() vfs.FS { return f.FS }

type noLock struct{}

func (noLock) Close() error { return nil }

// patientFile repeats failed writes of one file.
type patientFile struct {
	vfs.File
	patience *patience
}

func (f *patientFile) Write(p []byte) (written int, err error) {
	err = f.patience.repeat(func() error {
		n, err := f.File.Write(p[written:])
		written += n
		return err
	})
	return written, err
}

func (f *patientFile) WriteAt(p []byte, offset int64) (written int, err error) {
	err = f.patience.repeat(func() error {
		n, err := f.File.WriteAt(p[written:], offset+int64(written))
		written += n
		return err
	})
	return written, err
}

// Preallocate is a hint; a full disk shows when it is written to.
func (f *patientFile) Preallocate(offset, length int64) error {
	_ = f.File.Preallocate(offset, length)
	return nil
}

func (f *patientFile) Sync() error     { return f.patience.repeat(f.File.Sync) }
func (f *patientFile) SyncData() error { return f.patience.repeat(f.File.SyncData) }

func (f *patientFile) SyncTo(length int64) (full bool, err error) {
	err = f.patience.repeat(func() (err error) {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}
