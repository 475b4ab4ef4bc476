package quarantine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// plenty is the part of the room, of a hundred, that copies may take together with all else; and from which on the log
// tells that little is left.
const plenty = 80

// Keep writes a message of size bytes and what is known of it, and returns nil when both outlast a crash: the client may
// be told 250 then. The error wraps [ErrFull] where there is no room; it is logged in all other cases. Nothing is left of a
// message that was not kept.
func (q *Quarantine) Keep(e *Entry, body io.WriterTo, size int64) error {
	if !validID(e.ID) {
		return fmt.Errorf("%q is no id of a message", e.ID)
	}
	e.Format, e.Kept, e.Size = format, q.clock.Now().UTC(), size
	e.Digest = strings.Repeat("0", 2*sha256.Size) // as long as the real one
	e.From, e.Subject = shorten(e.From), shorten(e.Subject)
	about, err := json.Marshal(e)
	if err != nil {
		q.failed("a message cannot be described", e.ID, err)
		return err
	}
	limit := q.size()
	if e.Copy {
		limit = limit / 100 * plenty
	}
	i, err := q.claim(e.ID, size+int64(len(about)), limit)
	if err != nil {
		return err
	}
	if err := q.write(e, body); err != nil {
		q.failed("a message could not be kept", e.ID, err)
		q.undo(e.ID)
		q.forget(i)
		return err
	}
	i.kept = e.Kept // nobody else looks at it before leave
	q.leave(i)
	if e.Copy {
		q.metrics.Copies.Add(1)
	} else {
		q.metrics.Kept.Add(1)
	}
	return nil
}

// write puts message and side file in place. The message's name comes last: with it, the message is kept.
func (q *Quarantine) write(e *Entry, body io.WriterTo) error {
	c := &q.config
	digest := sha256.New()
	err := writeFile(q.disk, c.temporary(e.ID), func(w io.Writer) error {
		n, err := body.WriteTo(io.MultiWriter(w, digest))
		if err == nil && n != e.Size {
			err = fmt.Errorf("the message has %d bytes and not %d", n, e.Size)
		}
		return err
	})
	if err != nil {
		return err
	}
	e.Digest = hex.EncodeToString(digest.Sum(nil))
	if err := q.writeAbout(e); err != nil {
		return err
	}
	if err := q.disk.Rename(c.temporary(e.ID), c.File(e.ID)); err != nil {
		return err
	}
	return q.disk.SyncFolder(c.folder(newFolder))
}

// writeAbout puts a side file in place, or another in place of the one that is there.
func (q *Quarantine) writeAbout(e *Entry) error {
	c := &q.config
	about, err := json.Marshal(e)
	if err != nil {
		return err
	}
	temporary := c.temporary(e.ID + aboutSuffix)
	err = writeFile(q.disk, temporary, func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(about))
		return err
	})
	if err != nil {
		return err
	}
	if err := q.disk.Rename(temporary, c.about(e.ID)); err != nil {
		return err
	}
	return q.disk.SyncFolder(c.folder(aboutFolder))
}

// undo removes what there is of a message that was not kept. What cannot be removed is left for the next start; if that is
// the whole message it will be in quarantine then, and its sender will have sent it again: twice is not lost.
func (q *Quarantine) undo(id string) {
	c := &q.config
	err := errors.Join(q.remove(id), q.disk.Remove(c.temporary(id)), q.disk.Remove(c.temporary(id+aboutSuffix)))
	if err != nil {
		q.failed("what there is of a message that was not kept cannot be removed", id, err)
	}
}

// remove takes a message off the disk for good. The side file goes last: a message without one would be taken for
// damaged.
func (q *Quarantine) remove(id string) error {
	c := &q.config
	if err := q.disk.Remove(c.File(id)); err != nil {
		return err
	}
	if err := q.disk.SyncFolder(c.folder(newFolder)); err != nil {
		return err
	}
	return q.disk.Remove(c.about(id))
}
