package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"gatepost/proxy/quarantine"
)

var errNotUnderstood = errors.New("the other gatepost does not understand this: it is of another release")

// keepPatience is how long a message may take to be kept by the other process, and a block of the journal.
const keepPatience = time.Minute

// Keeper takes messages into quarantine; see [quarantine.Quarantine.Keep].
type Keeper interface {
	Keep(e *quarantine.Entry, body io.WriterTo, size int64) error
}

// Quarantine keeps messages with whoever owns the quarantine now.
type Quarantine struct{ Seat[Keeper] }

// Keep implements proxy.Keeper.
func (q *Quarantine) Keep(e *quarantine.Entry, body io.WriterTo, size int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), keepPatience)
	defer cancel()
	return q.Ask(ctx, func(k Keeper) error { return k.Keep(e, body, size) })
}

// kept is the argument of the call "keep". The message is in a file that the caller removes afterwards.
type kept struct {
	Entry []byte // JSON, as on disk
	File  string
	Size  int64
}

// FilePattern matches the names of those files.
const FilePattern = "handover-*"

// RemoteKeeper lets the process at the other end keep messages. They go over in files in Folder: the link stays free for
// those who only ask.
type RemoteKeeper struct {
	Link   *Link
	Folder string
}

// Keep implements [Keeper].
func (r RemoteKeeper) Keep(e *quarantine.Entry, body io.WriterTo, size int64) (err error) {
	about, err := json.Marshal(e)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(r.Folder, FilePattern)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	n, err := body.WriteTo(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("the message has %d bytes and not %d", n, size)
	}
	ctx, cancel := context.WithTimeout(context.Background(), keepPatience)
	defer cancel()
	return r.Link.Call(ctx, "keep", kept{Entry: about, File: f.Name(), Size: size}, nil)
}

// ServeKeeper lets the other end of a link keep messages.
func ServeKeeper(l *Link, k Keeper) {
	l.Handle("keep", func(_ context.Context, body []byte, _ func(any) error) (any, error) {
		var m kept
		var e quarantine.Entry
		if Decode(body, &m) != nil || json.Unmarshal(m.Entry, &e) != nil {
			return nil, errNotUnderstood
		}
		f, err := os.Open(m.File)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return nil, k.Keep(&e, f, m.Size)
	})
}
