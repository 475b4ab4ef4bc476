package quarantine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// lossyDisk keeps files in memory, fails when it is told to, and knows what a power cut may leave of them: of a file what
// was synced and perhaps some of the rest, of a folder the names as of its last sync, or any of those of later.
type lossyDisk struct {
	now, safe map[string]*lossyFile // by path
	steps     int
	failing   map[int]bool // steps that fail
	cut       int          // the step at which the power goes; 0: never
}

type lossyFile struct {
	disk   *lossyDisk
	data   []byte
	synced int
}

var errPower = errors.New("the power is gone")

// step is one operation of the disk.
func (d *lossyDisk) step() error {
	d.steps++
	switch {
	case d.cut > 0 && d.steps >= d.cut:
		return errPower
	case d.failing[d.steps]:
		return syscall.EIO
	}
	return nil
}

func (d *lossyDisk) Create(path string) (file, error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	if d.now[path] != nil {
		return nil, os.ErrExist
	}
	f := &lossyFile{disk: d}
	d.now[path] = f
	return f, nil
}

func (d *lossyDisk) Rename(from, to string) error {
	if err := d.step(); err != nil {
		return err
	}
	if d.now[from] == nil {
		return os.ErrNotExist
	}
	d.now[to] = d.now[from]
	delete(d.now, from)
	return nil
}

func (d *lossyDisk) Remove(path string) error {
	if err := d.step(); err != nil {
		return err
	}
	delete(d.now, path)
	return nil
}

func (d *lossyDisk) SyncFolder(path string) error {
	if err := d.step(); err != nil {
		return err
	}
	for name := range d.safe {
		if filepath.Dir(name) == path {
			delete(d.safe, name)
		}
	}
	for name, f := range d.now {
		if filepath.Dir(name) == path {
			d.safe[name] = f
		}
	}
	return nil
}

func (f *lossyFile) Write(b []byte) (int, error) {
	if err := f.disk.step(); err != nil {
		n := len(b) / 2 // a full disk takes some
		f.data = append(f.data, b[:n]...)
		return n, err
	}
	f.data = append(f.data, b...)
	return len(b), nil
}

func (f *lossyFile) Sync() error {
	if err := f.disk.step(); err != nil {
		return err
	}
	f.synced = len(f.data)
	return nil
}

func (f *lossyFile) Close() error { return f.disk.step() }

// left writes to a folder what the power cut has left of another.
func (d *lossyDisk) left(t *rapid.T, from, to string) {
	var names []string
	for _, all := range []map[string]*lossyFile{d.now, d.safe} {
		for name := range all {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		f := d.safe[name]
		if rapid.Bool().Draw(t, "the later name") {
			f = d.now[name]
		}
		if f == nil {
			continue
		}
		data := f.data[:rapid.IntRange(f.synced, len(f.data)).Draw(t, "bytes that are left")]
		path := filepath.Join(to, strings.TrimPrefix(name, from))
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// bytesOf is the message of an id.
func bytesOf(id string) string { return letter + strings.Repeat(id+"\r\n", 20) }

// TestPromisesOutlastThePower: whatever fails and whenever the power goes, what Keep has returned nil for is there
// afterwards, byte for byte and with its envelope; what was deleted is gone; and nothing is taken for damaged.
func TestPromisesOutlastThePower(t *testing.T) {
	root := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		config := testConfig(filepath.Join(root, fmt.Sprint(runs, "-before")))
		disk := &lossyDisk{now: map[string]*lossyFile{}, safe: map[string]*lossyFile{}, failing: map[int]bool{}}
		h := openWith(t, config, Options{disk: disk})
		for range rapid.IntRange(0, 4).Draw(t, "failures") {
			disk.failing[rapid.IntRange(1, 80).Draw(t, "failing step")] = true
		}
		disk.cut = rapid.IntRange(0, 80).Draw(t, "the power goes at step")
		promised, deleted, marked := map[string]bool{}, map[string]bool{}, map[string]bool{}
		attempted := map[string]*Entry{}
		for n := range rapid.IntRange(1, 6).Draw(t, "operations") {
			switch id := idOf(rapid.IntRange(0, max(n-1, 0)).Draw(t, "which")); rapid.SampledFrom([]string{"keep", "keep", "keep", "delete", "mark"}).Draw(t, "operation") {
			case "keep":
				e := entry(idOf(n), "bob@example.org", "carol@example.org")
				text := bytesOf(e.ID)
				before := h.Stats()
				err := h.Keep(e, bytes.NewReader([]byte(text)), int64(len(text)))
				promised[e.ID], attempted[e.ID] = err == nil, e
				if err != nil && h.Stats() != before {
					t.Fatalf("a message that was not kept is counted: %+v, %+v", before, h.Stats())
				}
			case "delete":
				if err := h.Delete(context.Background(), id); err == nil {
					deleted[id] = true
				}
				delete(promised, id) // it is as the operator wanted, or not yet
			case "mark": // as a release does that some have refused
				if e := attempted[id]; promised[id] {
					e.Recipients[0].Released = time.Unix(1000, 0)
					marked[id] = h.writeAbout(e) == nil || marked[id]
				}
			}
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		after := testConfig(filepath.Join(root, fmt.Sprint(runs, "-after")))
		if err := makeFolders(&after); err != nil {
			t.Fatal(err)
		}
		disk.left(t, config.Path, after.Path)
		check(t, openWith(t, after, Options{}), promised, deleted, marked)
	})
}

func check(t *rapid.T, h *house, promised, deleted, marked map[string]bool) {
	t.Helper()
	defer h.Close()
	there := map[string]bool{}
	for _, id := range h.ids(t) {
		there[id] = true
		d, err := h.Show(context.Background(), id)
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		text, err := os.ReadFile(d.File)
		if err != nil || string(text) != bytesOf(id) || verify(bytes.NewReader(text), &d.Entry) != nil || d.ReversePath != "alice@example.net" || len(d.Recipients) != 2 {
			t.Fatalf("%s is not what it was: %+v, %v", id, d, err)
		}
		if marked[id] && d.Recipients[0].Released.IsZero() {
			t.Errorf("%s: it is forgotten that it was released", id)
		}
	}
	for id, kept := range promised {
		if kept && !there[id] {
			t.Errorf("%s was promised and is not there", id)
		}
	}
	for id := range deleted {
		if there[id] {
			t.Errorf("%s was deleted and is there", id)
		}
	}
	for _, name := range h.files(t) {
		if strings.HasPrefix(name, damagedFolder) || strings.HasPrefix(name, tmpFolder) {
			t.Errorf("%s is left", name)
		}
	}
}

// TestADiskThatFails: each step of Keep fails once. Nobody is told 250, nothing is left, and the next message is kept.
func TestADiskThatFails(t *testing.T) {
	steps := 0
	for failing := 0; failing <= steps; failing++ {
		disk := &lossyDisk{now: map[string]*lossyFile{}, safe: map[string]*lossyFile{}, failing: map[int]bool{failing: true}}
		h := openWith(t, testConfig(t.TempDir()), Options{disk: disk})
		err := h.Keep(entry(idOf(1)), bytes.NewReader([]byte(letter)), int64(len(letter)))
		if failing == 0 {
			steps = disk.steps
			if err != nil || steps < 12 {
				t.Fatalf("%d steps, %v", steps, err)
			}
		} else if !errors.Is(err, syscall.EIO) || len(disk.now) > 0 || h.Stats() != (Stats{Limit: 10 << 20}) || h.Metrics().Errors.Load() != 1 {
			t.Errorf("step %d fails: %v, %d files, %+v", failing, err, len(disk.now), h.Stats())
		}
		h.keep(t, entry(idOf(2)), letter)
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWhatCannotBeRemovedStays: a message whose removal fails can be removed again.
func TestWhatCannotBeRemovedStays(t *testing.T) {
	for _, failing := range []int{1, 2, 3} {
		disk := &lossyDisk{now: map[string]*lossyFile{}, safe: map[string]*lossyFile{}, failing: map[int]bool{}}
		h := openWith(t, testConfig(t.TempDir()), Options{disk: disk})
		h.keep(t, entry(idOf(1)), letter)
		disk.failing[disk.steps+failing] = true
		if err := h.Delete(t.Context(), idOf(1)); !errors.Is(err, syscall.EIO) || h.Stats().Messages != 1 {
			t.Errorf("%v, %+v", err, h.Stats())
		}
		if err := h.Delete(t.Context(), idOf(1)); err != nil || h.Stats().Messages != 0 || len(disk.now) > 0 {
			t.Errorf("again: %v, %+v", err, h.Stats())
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
