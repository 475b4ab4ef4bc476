package journal

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// badDisk fails, or does not answer, when it is told to.
type badDisk struct {
	osDisk
	full  atomic.Bool
	half  atomic.Bool  // a full disk takes half of what it is given
	stuck atomic.Bool  // truncating fails as well
	mu    sync.RWMutex // held by a test: nothing is written meanwhile
}

type badFile struct {
	file
	disk *badDisk
}

func (d *badDisk) Create(path string) (file, error) {
	if d.full.Load() && !d.half.Load() {
		return nil, syscall.ENOSPC
	}
	f, err := d.osDisk.Create(path)
	return &badFile{f, d}, err
}

func (f *badFile) Write(b []byte) (int, error) {
	f.disk.mu.RLock()
	defer f.disk.mu.RUnlock()
	if !f.disk.full.Load() {
		return f.file.Write(b)
	}
	n := 0
	if f.disk.half.Load() {
		n, _ = f.file.Write(b[:len(b)/2])
	}
	return n, syscall.ENOSPC
}

func (f *badFile) Truncate(size int64) error {
	if f.disk.stuck.Load() {
		return errors.New("stuck")
	}
	return f.file.Truncate(size)
}

type safeBuffer struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s: it does not come to that", what)
		}
	}
}

// A full disk costs nothing but entries that memory has no room for; when there is room again, it goes on by itself.
func TestAFullDisk(t *testing.T) {
	for name, set := range map[string]func(*badDisk){
		"nothing is written":                   func(*badDisk) {},
		"half is written":                      func(d *badDisk) { d.half.Store(true) },
		"half is written and cannot be undone": func(d *badDisk) { d.half.Store(true); d.stuck.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk, log := &badDisk{}, &safeBuffer{}
			set(disk)
			c := testConfig(t.TempDir())
			c.Queue = 1 << 20
			j, err := Open(c, Options{Log: slog.New(slog.NewTextHandler(log, nil)), disk: disk})
			if err != nil {
				t.Fatal(err)
			}
			records := realRecords(t, 3000)
			j.Record(records[0])
			await(t, "the first block", func() bool { return j.metrics.Blocks.Load() == 1 })
			disk.full.Store(true)
			sent := 1
			for ; j.metrics.Dropped.Load() == 0; sent++ {
				j.Record(records[sent%len(records)])
			}
			await(t, "an error", func() bool { return j.metrics.Errors.Load() > 0 && strings.Contains(log.String(), "the disk fails") })
			disk.full.Store(false)
			await(t, "recovery", func() bool {
				return j.metrics.Queued.Load() == 0 && strings.Contains(log.String(), "takes entries again")
			})
			j.Record(records[1])
			sent++
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			kept := len(readAll(t, c.Path, Query{}))
			if dropped := int(j.metrics.Dropped.Load()); kept != sent-dropped || dropped == 0 {
				t.Errorf("%d were sent, %d dropped, %d kept", sent, dropped, kept)
			}
			if !strings.Contains(log.String(), "entries were dropped") {
				t.Errorf("it does not say that entries were dropped: %s", log)
			}
		})
	}
}

// What a full disk has not taken by the end is counted.
func TestTheEndOnAFullDisk(t *testing.T) {
	disk, log := &badDisk{}, &safeBuffer{}
	disk.full.Store(true)
	j, err := Open(testConfig(t.TempDir()), Options{Log: slog.New(slog.NewTextHandler(log, nil)), disk: disk})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range someRecords(3) {
		j.Record(r)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if j.metrics.Dropped.Load() != 3 || !strings.Contains(log.String(), "dropped=3") {
		t.Errorf("%d dropped; the log: %s", j.metrics.Dropped.Load(), log)
	}
}

// A disk that does not answer holds nobody up.
func TestASlowDisk(t *testing.T) {
	disk := &badDisk{}
	c := testConfig(t.TempDir())
	c.Queue = 1 << 20
	j, err := Open(c, Options{disk: disk})
	if err != nil {
		t.Fatal(err)
	}
	records := realRecords(t, 100)
	disk.mu.Lock()
	for i := 0; j.metrics.Dropped.Load() < 10; i++ { // it would not come to an end if Record waited
		j.Record(records[i%len(records)])
	}
	disk.mu.Unlock()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := len(readAll(t, c.Path, Query{})), int(j.metrics.Records.Load()); got != want {
		t.Errorf("%d were taken up, %d kept", want, got)
	}
}

// All of it stays within journal.size, and nothing stays longer than journal.keep.
func TestBounds(t *testing.T) {
	clock := filtertest.NewClockAt(time.Now())
	c := testConfig(t.TempDir())
	c.Size, c.Keep, c.Queue = 1<<20, filters.Duration(48*time.Hour), 1<<30
	open := func() *Journal {
		j, err := Open(c, Options{Clock: clock})
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	taken := func() (total int64) {
		files, err := segments(c.Path)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			total += f.size
		}
		return total
	}
	j := open()
	records := realRecords(t, 5000)
	for i := range 30000 {
		j.Record(records[i%len(records)])
	}
	await(t, "the disk", func() bool { return j.metrics.Removed.Load() > 0 })
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if total := taken(); total > int64(c.Size) || total < int64(c.Size)/2 {
		t.Errorf("%d bytes are on disk, at most %d were allowed", total, c.Size)
	}
	clock.Advance(49 * time.Hour)
	if err := open().Close(); err != nil {
		t.Fatal(err)
	}
	if total := taken(); total != 0 {
		t.Errorf("%d bytes have outlived their time", total)
	}
}

func TestOneWriterAtATime(t *testing.T) {
	c := testConfig(t.TempDir())
	j, err := Open(c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if other, err := Open(c, Options{}); err == nil || !strings.Contains(err.Error(), "another gatepost writes this journal") {
		t.Errorf("a second one: %v, %v", other, err)
	}
	j.Record(someRecords(1)[0])
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	j.Record(someRecords(1)[0]) // too late, and no harm
	if j.metrics.Dropped.Load() != 1 {
		t.Error("a record behind the end is not counted as dropped")
	}
	files, err := segments(c.Path)
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if info, err := os.Stat(files[0].path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the file's mode: %v, %v", info.Mode(), err)
	}
}
