package quarantine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"gatepost/filters"
	"gatepost/proxy/backend"
	"gatepost/proxy/front"
)

// Options is what a Quarantine is opened with.
type Options struct {
	Clock filters.Clock
	Log   *slog.Logger
	// Backend returns the backends that take what is released, nil if there are none, and what to call when they are not
	// needed any more.
	Backend func() (group *backend.Group, done func())

	disk disk // nil: the machine's own
}

// Quarantine is the messages in a folder. Its methods are safe for concurrent use.
type Quarantine struct {
	config  Config // its bounds: guarded by mu
	clock   filters.Clock
	log     *slog.Logger
	disk    disk
	backend func() (*backend.Group, func())
	lock    *os.File
	metrics Metrics

	base    context.Context // ends with Close: what is released then is given up
	cancel  context.CancelFunc
	working sync.WaitGroup // one for each busy item

	mu      sync.Mutex // guards all below
	items   []*item    // by id, which is by age
	used    int64      // bytes on disk of all items
	crowded bool       // the log has told that little room is left
	closed  bool
}

// item is a message in the index.
type item struct {
	id     string
	kept   time.Time
	bytes  int64     // on disk, side file included
	busy   bool      // somebody writes, releases or removes it
	coming bool      // it is being written, and nobody else's business yet
	warned time.Time // when the log told that it is going to be removed; zero: it has not
}

// maxMessages bounds the index, about 150 bytes each.
const maxMessages = 100_000

// Errors of what is asked for by id.
var (
	ErrUnknown = errors.New("there is no such message in quarantine")
	ErrBusy    = errors.New("it is being released or removed at the moment")
	ErrFull    = errors.New("the quarantine is full")
	errClosed  = errors.New("the quarantine is closed")
)

// Open makes the folder if it is missing, and looks through what is there. It has to be closed.
func Open(c Config, o Options) (*Quarantine, error) {
	if o.disk == nil {
		o.disk = osDisk{}
	}
	q := &Quarantine{config: c, clock: o.Clock, log: o.Log, disk: o.disk, backend: o.Backend}
	if err := makeFolders(&c); err != nil {
		return nil, fmt.Errorf("quarantine: %w", err)
	}
	lock, err := front.LockFile(filepath.Join(c.Path, lockName))
	if err != nil {
		return nil, fmt.Errorf("quarantine: %w", err)
	}
	if err := q.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("quarantine: %w", err), lock.Close())
	}
	q.lock = lock
	q.base, q.cancel = context.WithCancel(context.Background())
	return q, nil
}

// makeFolders makes what is missing so that it outlasts a crash: with the folder, all that was synced in it would go.
func makeFolders(c *Config) error {
	oldest := c.Path // of the folders that are there already
	for _, err := os.Stat(oldest); errors.Is(err, os.ErrNotExist) && oldest != filepath.Dir(oldest); _, err = os.Stat(oldest) {
		oldest = filepath.Dir(oldest)
	}
	for _, name := range []string{tmpFolder, newFolder, aboutFolder, damagedFolder} {
		if err := os.MkdirAll(filepath.Join(c.Path, name), 0o700); err != nil {
			return err
		}
	}
	for folder := c.Path; ; folder = filepath.Dir(folder) {
		// What is above may be somebody else's, and closed to us: then it was there before.
		if err := (osDisk{}).SyncFolder(folder); err != nil && (folder == c.Path || !errors.Is(err, os.ErrPermission)) {
			return err
		}
		if len(folder) < len(oldest) || folder == filepath.Dir(folder) {
			return nil
		}
	}
}

// Close gives up what is being released, waits for it, and lets go of the folder. Nothing may be kept any more.
func (q *Quarantine) Close() error {
	q.mu.Lock()
	already := q.closed
	q.closed = true
	q.mu.Unlock()
	if already {
		return nil
	}
	q.cancel()
	q.working.Wait()
	return q.lock.Close()
}

// find returns the place of an id in the index, or where it would be. The caller holds the mutex.
func (q *Quarantine) find(id string) (int, bool) {
	return slices.BinarySearchFunc(q.items, id, func(i *item, id string) int { return strings.Compare(i.id, id) })
}

// claim makes room for a message that is about to be written, or says why there is none.
func (q *Quarantine) claim(id string, bytes int64, limit int64) (*item, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	place, there := q.find(id)
	switch {
	case q.closed:
		return nil, errClosed
	case there:
		return nil, errors.New("there is a message of that id already")
	case q.used+bytes > limit || len(q.items) >= maxMessages:
		q.metrics.Full.Add(1)
		return nil, ErrFull
	}
	i := &item{id: id, bytes: bytes, busy: true, coming: true}
	q.items = slices.Insert(q.items, place, i)
	q.used += bytes
	q.working.Add(1)
	return i, nil
}

// take marks a message as busy.
func (q *Quarantine) take(id string) (*item, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	place, there := q.find(id)
	switch {
	case q.closed:
		return nil, errClosed
	case !there || q.items[place].coming:
		return nil, fmt.Errorf("%w: %q", ErrUnknown, id)
	case q.items[place].busy:
		return nil, ErrBusy
	}
	q.items[place].busy = true
	q.working.Add(1)
	return q.items[place], nil
}

// leave ends what claim, take or due began; the message is there.
func (q *Quarantine) leave(i *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i.busy, i.coming = false, false
	q.working.Done()
}

// forget ends it; the message is not there any more.
func (q *Quarantine) forget(i *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if place, there := q.find(i.id); there {
		q.items = slices.Delete(q.items, place, place+1)
		q.used -= i.bytes
	}
	q.working.Done()
}

// resize notes what a message takes on disk now.
func (q *Quarantine) resize(i *item, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used += bytes - i.bytes
	i.bytes = bytes
}

// failed counts and logs what the disk did not do.
func (q *Quarantine) failed(what, id string, err error) {
	q.metrics.Errors.Add(1)
	q.log.Error("quarantine: "+what, "id", id, "error", err)
}
