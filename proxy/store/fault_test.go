package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// fault makes writes fail, or reads hang, while it is on.
type fault struct {
	full   atomic.Bool
	hang   atomic.Bool
	hung   chan struct{} // closed to let hanging reads go
	failed atomic.Int64
}

func (f *fault) fs() vfs.FS {
	return errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileReadAt, errorfs.OpFileRead:
			if f.hang.Load() {
				<-f.hung
			}
		case errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo,
			errorfs.OpReuseForWrite, errorfs.OpOpenDir, errorfs.OpRename:
			if f.full.Load() {
				f.failed.Add(1)
				return syscall.ENOSPC
			}
		}
		return nil
	}))
}

// syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestAFullDiskIsASlowDisk(t *testing.T) {
	config, clock, f, log := testConfig(t), filtertest.NewClock(), &fault{}, &syncBuffer{}
	config.MaxPending = 1000
	config.Flush = 10_000_000
	s := must(prepare(config, clock, slog.New(slog.NewTextHandler(log, nil)), f.fs()))(t)
	go s.maintain()
	must(s.Attempt(t.Context(), "g", []string{"before"}, terms))(t)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}

	f.full.Store(true)
	must(s.Attempt(t.Context(), "g", []string{"during"}, terms))(t)
	waitFor(t, "the disk has refused a write", func() bool { return f.failed.Load() > 2 && s.Stats().Failing != nil })
	// Decisions go on from memory, until the bound.
	clock.Advance(terms.Delay)
	for _, key := range []string{"before", "during"} {
		if m := must(s.Attempt(t.Context(), "g", []string{key}, terms))(t); m[0].Passed.IsZero() {
			t.Errorf("%s does not pass while the disk is full", key)
		}
	}
	var err error
	for i := 0; err == nil && i < 5000; i++ {
		_, err = s.Attempt(t.Context(), "g", []string{fmt.Sprint(i)}, terms)
	}
	if !errors.Is(err, ErrFull) {
		t.Errorf("beyond the bound: %v", err)
	}
	if st := s.Stats(); st.Pending > int64(config.MaxPending) || st.Refused == 0 {
		t.Errorf("stats %+v", st)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	if err := s.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Flush to a full disk: %v", err)
	}
	cancel()

	f.full.Store(false)
	waitFor(t, "the marks are written", func() bool { return s.Stats().Pending == 0 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "does not take marks"); n != 1 {
		t.Errorf("the error was logged %d times in a minute:\n%s", n, log)
	}
	if !strings.Contains(log.String(), "takes marks again") {
		t.Errorf("the end of the trouble was not logged:\n%s", log)
	}
	again := openTest(t, config, clock)
	if m := must(again.Peek(t.Context(), "g", []string{"during"}))(t); m[0].Passed.IsZero() {
		t.Error("the mark made while the disk was full is lost")
	}
}

func TestCloseDoesNotWaitForADeadDisk(t *testing.T) {
	f := &fault{}
	s := must(prepare(testConfig(t), filtertest.NewClock(), quiet(), f.fs()))(t)
	s.patient = 50 * time.Millisecond
	go s.maintain()
	f.full.Store(true)
	must(s.Attempt(t.Context(), "g", []string{"a"}, terms))(t)
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "1 marks") {
		t.Errorf("Close: %v", err)
	}
	f.full.Store(false)
	<-s.stopped
}

func TestAHangingReadEndsWithTheContext(t *testing.T) {
	config, clock := testConfig(t), filtertest.NewClock()
	filled(t, config)
	f := &fault{hung: make(chan struct{})}
	s := must(prepare(config, clock, quiet(), f.fs()))(t)
	go s.maintain()
	f.hang.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	// Some blocks may be in pebble's cache.
	var err error
	for i := 0; err == nil && i < 3000; i++ {
		_, err = s.Peek(ctx, "g", []string{fmt.Sprintf("key%05d", i)})
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Peek on a hanging disk: %v", err)
	}
	for i := range 3000 { // one of them has the lock that the hanging read holds
		var a filters.Attempt
		if _, err := s.Peek(&a, "g", []string{fmt.Sprintf("key%05d", i)}); a.Missed() != errors.Is(err, filters.ErrNotAtHand) {
			t.Errorf("an attempt on a hanging disk: %v", err)
		}
	}
	f.hang.Store(false)
	close(f.hung)
	if m := must(s.Peek(t.Context(), "g", []string{"key00001"}))(t); !m[0].Exists() {
		t.Error("the mark is gone")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A disk that is full when the store is opened keeps no mail away: what is decided meanwhile meets what is on disk as soon
// as there is room.
func TestAFullDiskAtTheStart(t *testing.T) {
	for name, before := range map[string]bool{"an old folder": true, "no folder yet": false} {
		t.Run(name, func(t *testing.T) {
			config, clock, f, log := testConfig(t), filtertest.NewClock(), &fault{}, &syncBuffer{}
			config.Flush = 10_000_000
			keys := []string{"known", "gone"}
			if before {
				s := must(Open(config, clock, quiet()))(t)
				if err := s.Pass(t.Context(), "g", keys[:1], terms.Keep); err != nil {
					t.Fatal(err)
				}
				if err := s.Pass(t.Context(), "g", keys[1:], time.Hour); err != nil {
					t.Fatal(err)
				}
				s.Tally("example.org", filters.Counts{Delivered: 3}, 1000*time.Hour)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				clock.Advance(2 * time.Hour)
			}
			f.full.Store(true)
			s := must(prepare(config, clock, slog.New(slog.NewTextHandler(log, nil)), f.fs()))(t)
			s.pause, s.retry = 20*time.Millisecond, time.Now()
			go s.maintain()
			if m := must(s.Attempt(t.Context(), "g", keys, terms))(t); !m[0].Passed.IsZero() {
				t.Error("the test shows nothing: the folder was opened")
			}
			s.Tally("example.org", filters.Counts{Delivered: 1}, 1000*time.Hour)
			if s.Stats().Failing == nil {
				t.Error("nothing tells that the disk fails")
			}
			f.full.Store(false)
			waitFor(t, "the folder is opened", func() bool { return s.Stats().Failing == nil })
			m := must(s.Peek(t.Context(), "g", keys))(t)
			if m[0].Passed.IsZero() == before {
				t.Errorf("what was known before: %+v", m[0])
			}
			if !m[1].Passed.IsZero() {
				t.Errorf("what had expired is back: %+v", m[1])
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			again := openTest(t, config, clock)
			if m := must(again.Peek(t.Context(), "g", keys))(t); m[0].Passed.IsZero() == before || m[0].Attempts == 0 {
				t.Errorf("after the next start: %+v", m[0])
			}
			if st := must(again.Standings(t.Context(), []string{"example.org"}))(t); (st[0].Delivered > 3) != before || !st[0].Exists() {
				t.Errorf("the reputation: %+v", st[0])
			}
			if n := again.Stats().Entries; n != 2 {
				t.Errorf("%d marks are counted", n)
			}
			if n := strings.Count(log.String(), "does not take marks"); n != 1 || !strings.Contains(log.String(), "takes marks again") {
				t.Errorf("the log:\n%s", log)
			}
		})
	}
}

// Too few descriptors, or a file of somebody else's, do not make a good folder a broken one.
func TestWhatPassesBreaksNoFolder(t *testing.T) {
	for _, passing := range []error{syscall.EMFILE, syscall.EACCES} {
		config, clock := testConfig(t), filtertest.NewClock()
		filled(t, config)
		var failing atomic.Bool
		s := must(prepare(config, clock, quiet(), errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if failing.Load() && (op.Kind == errorfs.OpOpen || op.Kind == errorfs.OpFileReadAt) && strings.HasSuffix(op.Path, ".sst") {
				return passing
			}
			return nil
		}))))(t)
		s.config.Flush = 10_000_000
		go s.maintain()
		failing.Store(true)
		for i := range 3000 {
			_, _ = s.Peek(t.Context(), "g", []string{fmt.Sprintf("key%05d", i)})
		}
		failing.Store(false)
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if m := must(s.Peek(t.Context(), "g", []string{"never asked for"}))(t); m[0].Exists() || s.Stats().SetAside != 0 {
			t.Errorf("%v: %d folders were set aside", passing, s.Stats().SetAside)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADiskThatFailsNowAndThenLosesNothing(t *testing.T) {
	config, clock, f := testConfig(t), filtertest.NewClock(), &fault{}
	config.Flush = 10_000_000
	s := must(prepare(config, clock, quiet(), f.fs()))(t)
	s.patient = time.Minute
	go s.maintain()
	// Enough to rotate the log, write tables and compact them.
	const calls, each = 4000, 50
	keys := make([]string, each)
	for i := range calls {
		for j := range keys {
			keys[j] = fmt.Sprintf("%d some key of a common length %d", j, i)
		}
		for {
			err := s.Pass(t.Context(), "g", keys, terms.Keep)
			if err == nil {
				break
			}
			if !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			f.full.Store(false)
			time.Sleep(time.Millisecond)
		}
		if i%100 == 0 {
			f.full.Store(i%300 == 0)
		}
	}
	f.full.Store(false)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if f.failed.Load() == 0 {
		t.Error("nothing failed")
	}
	again := openTest(t, config, clock)
	if n := again.Stats().Entries; n != calls*each {
		t.Errorf("%d marks, want %d", n, calls*each)
	}
	n := 0
	if err := again.Range(t.Context(), "g", "", func(string, filters.Mark) bool { n++; return true }); err != nil || n != calls*each {
		t.Errorf("%d marks found, want %d; %v", n, calls*each, err)
	}
}
