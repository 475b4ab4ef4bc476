package quarantine

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// disk is what changes the files. A test has one that fails, and one that forgets what was not synced.
type disk interface {
	Create(path string) (file, error) // for writing; it must not exist
	Rename(from, to string) error
	Remove(path string) error // no error if there is no such file
	SyncFolder(path string) error
}

type file interface {
	io.Writer
	Sync() error
	Close() error
}

// osDisk is the machine's own.
type osDisk struct{}

func (osDisk) Create(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osDisk) Rename(from, to string) error { return os.Rename(from, to) }

func (osDisk) Remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// SyncFolder makes the names in a folder outlast a crash.
func (osDisk) SyncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// writeFile makes a file that outlasts a crash as soon as its name does.
func writeFile(d disk, path string, write func(io.Writer) error) error {
	f, err := d.Create(path)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}
