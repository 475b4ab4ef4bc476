package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrNewer is wrapped by Open's error when a later release has written the marks in a form that this one does not know.
// They are left as they are: to set them aside would throw away what the later release can read.
var ErrNewer = errors.New("the marks were written by a later release of gatepost in a form that this one does not know: " +
	"start that release; to go back for good, let it write them down with `gatepost state export`, move the folder away, and import them here")

// storeFormat is written beside the marks. A release writes only what the one before it can read, so that one release
// can be gone back; what is added to values keeps the number, since readers pass over what they do not know.
const storeFormat = 1

// inspect looks at the folder before pebble does. Pebble takes a folder without its marker for a new one and clears away
// what it finds there, and does not miss a log.
func inspect(files vfs.FS, folder string, log *slog.Logger) error {
	names, err := files.List(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var manifest, hasLog, hasTable, hasOptions bool
	for _, name := range names {
		marker := strings.Split(name, ".")
		switch {
		case len(marker) == 4 && marker[0] == "marker" && marker[1] == "manifest":
			manifest = true
		case len(marker) == 4 && marker[0] == "marker" && marker[1] == "format-version":
			if version, err := strconv.ParseUint(marker[3], 10, 32); err == nil && version > uint64(pebble.FormatNewest) {
				return fmt.Errorf("%w (format %d of the database; this release reads up to %d)", ErrNewer, version, pebble.FormatNewest)
			}
		case strings.HasSuffix(name, ".log"):
			hasLog = true
		case strings.HasSuffix(name, ".sst"):
			hasTable = true
		case strings.HasPrefix(name, "OPTIONS-"):
			hasOptions = true // the last file of a new folder: what is missing beside it was there once
		}
	}
	switch {
	case !manifest && (hasTable || hasOptions):
		return errors.New("the file that names its manifest is missing")
	case manifest && !hasLog && hasOptions:
		log.Error("store: the log of the latest changes is missing; marks made after it was begun are lost, older ones are there", "path", folder)
	}
	return nil
}

// checkFormat reads the format of the marks; those of before it was written have none.
func (d *disk) checkFormat() error {
	if format := d.count(formatKey); format > storeFormat {
		return fmt.Errorf("%w (format %d of the marks; this release reads up to %d)", ErrNewer, format, storeFormat)
	}
	return nil
}

// probeSize is about what pebble writes to open a folder.
const probeSize = 1 << 20

// tryWriting tells whether there is room. Pebble, if it is met by a full disk while it opens a folder, ends the process
// or leaves what it had begun.
func tryWriting(files vfs.FS, path string) error {
	f, err := files.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, probeSize))
	return errors.Join(err, f.Sync(), f.Close(), files.Remove(path))
}
