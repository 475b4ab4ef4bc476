package quarantine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func (c *Config) folder(name string) string { return filepath.Join(c.Path, name) }

// recover makes the index of what is on disk, after whatever end the last process has come to.
func (q *Quarantine) recover() error {
	if err := q.clear(); err != nil {
		return err
	}
	messages, err := os.ReadDir(q.config.folder(newFolder))
	if err != nil {
		return err
	}
	var left []string // as it is, with its side file
	for _, m := range messages {
		if !m.Type().IsRegular() || !validID(m.Name()) {
			q.log.Warn("quarantine: there is something that was never kept; it is left alone", "name", m.Name(), "folder", q.config.folder(newFolder))
			continue
		}
		err := q.adopt(m.Name())
		if errors.Is(err, errLeftAlone) {
			left = append(left, m.Name())
			q.metrics.Errors.Add(1)
			q.log.Error("quarantine: a message cannot be used now; it is left alone, and is looked at again at the next start", "id", m.Name(), "error", err)
			continue
		}
		if err != nil {
			return err
		}
	}
	slices.SortFunc(q.items, func(a, b *item) int { return strings.Compare(a.id, b.id) })
	return q.dropOrphans(left)
}

// clear removes what was being written when the last process ended: nobody was told 250 for it.
func (q *Quarantine) clear() error {
	left, err := os.ReadDir(q.config.folder(tmpFolder))
	if err != nil {
		return err
	}
	for _, f := range left {
		if err := q.disk.Remove(q.config.temporary(f.Name())); err != nil {
			return err
		}
	}
	if len(left) > 0 {
		q.log.Info("quarantine: what was half written when the last process ended was removed; its senders were not told 250", "files", len(left))
	}
	return nil
}

// errLeftAlone wraps why nothing is known of a message that may be as good as ever: its side file is a later release's, or
// is not ours to read.
var errLeftAlone = errors.New("it may be as good as ever")

// adopt takes a message into the index, or sets it aside if it is not what was written once.
func (q *Quarantine) adopt(id string) error {
	c := &q.config
	message, err := os.Stat(c.File(id))
	if err != nil {
		return err
	}
	about, err := os.Stat(c.about(id))
	if errors.Is(err, fs.ErrNotExist) {
		return q.setAside(id, "it has no side file")
	}
	if err != nil {
		return err
	}
	e, err := readOutline(c.about(id), id)
	var failed *fs.PathError
	switch {
	case errors.Is(err, errNewer), errors.As(err, &failed):
		return fmt.Errorf("%w: %w", errLeftAlone, err)
	case err != nil:
		return q.setAside(id, err.Error())
	case e.Size != message.Size():
		return q.setAside(id, "it is torn: the file has not the size that it had when it was kept")
	}
	i := &item{id: id, kept: e.Kept, bytes: message.Size() + about.Size()}
	q.items = append(q.items, i)
	q.used += i.bytes
	return nil
}

// setAside puts a message where it is in nobody's way. It was promised to somebody: it is never removed by us.
func (q *Quarantine) setAside(id, why string) error {
	c := &q.config
	q.log.Error("quarantine: a message cannot be used and was set aside", "id", id, "why", why, "folder", c.folder(damagedFolder))
	q.metrics.Errors.Add(1)
	if _, err := os.Lstat(c.about(id)); err == nil {
		if err := q.disk.Rename(c.about(id), filepath.Join(c.folder(damagedFolder), id+aboutSuffix)); err != nil {
			return err
		}
	}
	return q.disk.Rename(c.File(id), filepath.Join(c.folder(damagedFolder), id))
}

// dropOrphans removes side files without a message: it was never kept, or was being removed. Those of messages that are
// left alone stay.
func (q *Quarantine) dropOrphans(left []string) error {
	files, err := os.ReadDir(q.config.folder(aboutFolder))
	if err != nil {
		return err
	}
	for _, f := range files {
		id, isAbout := strings.CutSuffix(f.Name(), aboutSuffix)
		if _, there := q.find(id); there || !isAbout || slices.Contains(left, id) {
			continue
		}
		q.log.Info("quarantine: there is a side file without its message, which was never kept or was being removed; it is removed", "id", id)
		if err := q.disk.Remove(q.config.about(id)); err != nil {
			return err
		}
	}
	return nil
}
