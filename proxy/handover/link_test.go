package handover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/proxy/quarantine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// linked makes the two ends of a link; prepare registers what the far one answers.
func linked(t *testing.T, prepare func(far *Link)) (near, far *Link) {
	t.Helper()
	a, b := net.Pipe()
	log := slog.New(slog.DiscardHandler)
	near, far = NewLink(a, log), NewLink(b, log)
	prepare(far)
	var running sync.WaitGroup
	for _, l := range []*Link{near, far} {
		running.Go(func() { l.Run(context.Background()) })
	}
	t.Cleanup(func() { near.Close(); far.Close(); running.Wait() })
	return near, far
}

func TestCalls(t *testing.T) {
	var told []string
	var mu sync.Mutex
	near, far := linked(t, func(far *Link) {
		far.Handle("double", func(_ context.Context, body []byte, _ func(any) error) (any, error) {
			var s string
			err := Decode(body, &s)
			return s + s, err
		})
		far.Handle("count", func(_ context.Context, _ []byte, send func(any) error) (any, error) {
			for i := range 10 {
				if err := send(i); err != nil {
					return nil, err
				}
			}
			return nil, nil
		})
		far.Handle("fail", func(context.Context, []byte, func(any) error) (any, error) { return nil, filters.ErrNotAtHand })
		far.Handle("panic", func(context.Context, []byte, func(any) error) (any, error) { panic("boom") })
		far.Handle("wait", func(ctx context.Context, _ []byte, _ func(any) error) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		far.HandleNotice("tell", func(body []byte) {
			var s string
			Decode(body, &s)
			mu.Lock()
			told = append(told, s)
			mu.Unlock()
		})
	})
	var answer string
	if err := near.Call(t.Context(), "double", "a\xff\x00b", &answer); err != nil || answer != "a\xff\x00ba\xff\x00b" {
		t.Errorf("%q, %v", answer, err)
	}
	var got []int
	if err := Stream(t.Context(), near, "count", nil, func(i int) bool { got = append(got, i); return i < 4 }); err != nil || len(got) != 5 {
		t.Errorf("%v, %v", got, err)
	}
	if err := near.Call(t.Context(), "fail", nil, nil); !errors.Is(err, filters.ErrNotAtHand) {
		t.Errorf("an error that both know: %v", err)
	}
	for name, want := range map[string]string{"panic": "internal error", "unknown": `does not know "unknown"`} {
		if err := near.Call(t.Context(), name, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := near.Call(ctx, "wait", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call that takes too long: %v", err)
	}
	for i := range 100 {
		near.Notify("tell", fmt.Sprint(i))
	}
	near.Call(t.Context(), "double", "", &answer) // behind the notices
	mu.Lock()
	if len(told) != 100 || told[0] != "0" || told[99] != "99" {
		t.Errorf("notices came as %v", told)
	}
	mu.Unlock()
	if err := near.Call(t.Context(), "double", strings.Repeat("x", maxFrame), nil); err == nil {
		t.Error("a frame without bound")
	}
	hanging := make(chan error)
	go func() { hanging <- near.Call(context.Background(), "wait", nil, nil) }()
	far.Close()
	if err := <-hanging; !errors.Is(err, ErrLinkEnded) {
		t.Errorf("the link ended: %v", err)
	}
	if err := near.Call(t.Context(), "double", "", nil); !errors.Is(err, ErrLinkEnded) {
		t.Errorf("after its end: %v", err)
	}
}

func TestTheMemoryAtTheOtherEnd(t *testing.T) {
	clock := filtertest.NewClock()
	store := filtertest.NewStore(clock)
	near, _ := linked(t, func(far *Link) { ServeStore(far, "site", store) })
	var m Memory
	m.Settle(NewRemote(near, "site"))
	ctx, terms := t.Context(), filters.Terms{Delay: time.Minute, Window: time.Hour, Keep: 24 * time.Hour}
	if marks, err := m.Attempt(ctx, "greylist", []string{"a\xff"}, terms); err != nil || len(marks) != 1 || marks[0].Attempts != 1 {
		t.Errorf("%+v, %v", marks, err)
	}
	clock.Advance(2 * time.Minute)
	if marks, err := m.Attempt(ctx, "greylist", []string{"a\xff"}, terms); err != nil || marks[0].Passed.IsZero() {
		t.Errorf("%+v, %v", marks, err)
	}
	here, _ := store.Peek(ctx, "greylist", []string{"a\xff", "b"})
	there, err := m.Peek(ctx, "greylist", []string{"a\xff", "b"})
	if err != nil || len(there) != 2 || !there[0].Passed.Equal(here[0].Passed) || there[1].Exists() {
		t.Errorf("%+v, %v", there, err)
	}
	if _, ok := filters.PeekAtHand(&m, "greylist", []string{"a\xff"}); ok {
		t.Error("what another process knows was at hand")
	}
	for i := range 2500 {
		store.Pass(ctx, "many", []string{fmt.Sprint(i)}, time.Hour)
	}
	n := 0
	if err := m.Range(ctx, "many", "", func(string, filters.Mark) bool { n++; return true }); err != nil || n != 2500 {
		t.Errorf("%d of 2500, %v", n, err)
	}
	if n, err := m.Forget(ctx, "greylist", []string{"a\xff"}); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	m.Tally("c:a\xff", filters.Counts{Delivered: 3}, time.Hour)
	if list, err := m.Standings(ctx, []string{"c:a\xff", "x"}); err != nil || len(list) != 2 || list[0].Delivered != 3 || list[1].Exists() {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestASeat keeps who asks waiting while nobody sits, and no longer.
func TestASeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Seat[string]
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Ask(ctx, func(string) error { return nil }); !errors.Is(err, ErrVacant) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an empty seat: %v", err)
		}
		s.Take("first")
		asking, leave := make(chan struct{}), make(chan struct{})
		var asked atomic.Int32
		go s.Ask(context.Background(), func(string) error { close(asking); <-leave; return nil })
		<-asking
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Vacate(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("somebody still asks: %v", err)
		}
		for range 10 {
			go s.Ask(context.Background(), func(owner string) error {
				if owner == "second" {
					asked.Add(1)
				}
				return nil
			})
		}
		synctest.Wait()
		if s.AskNow(func(string) {}) || asked.Load() != 0 {
			t.Error("nobody sits there, and answers")
		}
		close(leave)
		s.Take("second")
		synctest.Wait()
		if asked.Load() != 10 {
			t.Errorf("%d of 10 were answered", asked.Load())
		}
		if err := s.Vacate(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// counter is a meter that counts.
type counter struct{ taken atomic.Int64 }

func (c *counter) Allow(context.Context, filters.Bucket) (bool, error) {
	return c.taken.Add(1) <= 2, nil
}
func (c *counter) IsEmpty(context.Context, filters.Bucket) (bool, error) {
	return c.taken.Load() >= 2, nil
}
func (c *counter) Take(_ filters.Bucket, n int64) { c.taken.Add(n) }

func TestLimitsAtTheOtherEnd(t *testing.T) {
	far := &counter{}
	near, _ := linked(t, func(l *Link) { ServeMeter(l, "limits", func() filters.Meter { return far }) })
	var c Counter
	b := filters.Bucket{Limit: "a", Of: "b", Burst: 2}
	c.Take(b, 1) // nobody counts yet
	c.Settle(NewRemote(near, "limits"))
	if ok, err := c.Allow(t.Context(), b); !ok || err != nil {
		t.Errorf("the second: %t, %v", ok, err)
	}
	if empty, err := c.IsEmpty(t.Context(), b); !empty || err != nil {
		t.Errorf("two are taken: %t, %v", empty, err)
	}
	if ok, err := c.Allow(t.Context(), b); ok || err != nil {
		t.Errorf("the third: %t, %v", ok, err)
	}
	near.Close()
	<-near.Done()
	if ok, err := c.Allow(t.Context(), b); !ok || err == nil {
		t.Errorf("nobody can be asked: %t, %v", ok, err)
	}
}

// shelf keeps one message.
type shelf struct {
	entry *quarantine.Entry
	body  string
}

func (s *shelf) Keep(e *quarantine.Entry, body io.WriterTo, size int64) error {
	var b bytes.Buffer
	if n, err := body.WriteTo(&b); err != nil || n != size {
		return fmt.Errorf("%d of %d bytes: %w", n, size, err)
	}
	s.entry, s.body = e, b.String()
	return nil
}

func TestQuarantineAtTheOtherEnd(t *testing.T) {
	far, folder := &shelf{}, t.TempDir()
	near, _ := linked(t, func(l *Link) { ServeKeeper(l, far) })
	var q Quarantine
	q.Take(RemoteKeeper{Link: near, Folder: folder})
	body := strings.Repeat("line\r\n", 100_000)
	e := &quarantine.Entry{ID: "X.1", ReversePath: "bob@example.net", Facts: map[string]any{"a.list": []string{"x"}}}
	if err := q.Keep(e, strings.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
	if far.entry.ID != "X.1" || far.body != body {
		t.Errorf("%+v with %d bytes", far.entry, len(far.body))
	}
	if err := q.Keep(e, strings.NewReader(body), 1); err == nil {
		t.Error("a message of another size")
	}
}

func FuzzFrame(f *testing.F) {
	good, _ := (&frame{number: 7, kind: call, name: "store.peek", body: []byte("x")}).append(nil)
	f.Add(good)
	f.Add([]byte{0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 9, 200})
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := got.append(nil)
		if err != nil || !bytes.HasPrefix(b, again) {
			t.Errorf("%x was read as %+v", b, got)
		}
	})
}
