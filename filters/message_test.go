package filters

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// diskSpill keeps what does not fit in real files under a temporary folder.
type diskSpill struct {
	dir   string
	left  atomic.Int64
	files atomic.Int64 // open
	fail  error
}

func newSpill(t testing.TB, total int64) *diskSpill {
	s := &diskSpill{dir: t.TempDir()}
	s.left.Store(total)
	return s
}

func (s *diskSpill) Create() (SpillFile, error) {
	if s.fail != nil {
		return nil, s.fail
	}
	f, err := os.CreateTemp(s.dir, "message")
	if err != nil {
		return nil, err
	}
	s.files.Add(1)
	return &spillFile{f, s}, os.Remove(f.Name())
}

func (s *diskSpill) Reserve(n int64) bool {
	if s.left.Add(-n) >= 0 {
		return true
	}
	s.left.Add(n)
	return false
}

func (s *diskSpill) Unreserve(n int64) { s.left.Add(n) }

type spillFile struct {
	*os.File
	s *diskSpill
}

func (f *spillFile) Close() error {
	f.s.files.Add(-1)
	return f.File.Close()
}

// Whatever is written in whatever pieces, every reader sees the same bytes, whether it came early or late, and every
// byte of the spill's total is given back.
func TestReadersSeeWhatWasWritten(t *testing.T) {
	const total = 1 << 40
	spill := newSpill(t, total)
	rapid.Check(t, func(t *rapid.T) {
		m := NewMessage(rapid.SampledFrom([]int64{0, 1, firstChunk, 100_000, 1 << 30}).Draw(t, "memory"), spill)
		size := rapid.IntRange(0, 400_000).Draw(t, "size")
		want := make([]byte, size)
		for i := range want {
			want[i] = byte(i ^ i>>8 ^ i>>16)
		}
		results := make(chan error, 8)
		readers := rapid.IntRange(0, 4).Draw(t, "readers")
		for i := range readers {
			go func() { results <- readAll(m, i%2 == 0, want) }()
		}
		for rest := want; len(rest) > 0; {
			k := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			if rapid.Bool().Draw(t, "into space") {
				k = copy(m.Space(), rest[:k])
				if err := m.Commit(k); err != nil {
					t.Fatal(err)
				}
			} else if n, err := m.Write(rest[:k]); n != k || err != nil {
				t.Fatal(n, err)
			}
			rest = rest[k:]
		}
		if m.Size() != int64(size) {
			t.Fatalf("size %d, want %d", m.Size(), size)
		}
		m.Complete()
		for range readers {
			if err := <-results; err != nil {
				t.Fatal(err)
			}
		}
		if err := readAll(m, true, want); err != nil {
			t.Fatal(err)
		}
		start := rapid.IntRange(0, size).Draw(t, "start")
		end := rapid.IntRange(start, size).Draw(t, "end")
		var got bytes.Buffer
		if n, err := m.WriteRange(&got, int64(start), int64(end)); err != nil || n != int64(end-start) || !bytes.Equal(got.Bytes(), want[start:end]) {
			t.Fatalf("WriteRange(%d, %d) wrote %d: %v", start, end, n, err)
		}
		m.Release()
		m.Release() // a second one does nothing
		if spill.left.Load() != total || spill.files.Load() != 0 {
			t.Fatalf("%d bytes and %d files are not given back", total-spill.left.Load(), spill.files.Load())
		}
	})
}

func readAll(m *Message, writeTo bool, want []byte) error {
	var got bytes.Buffer
	var err error
	if writeTo {
		_, err = m.Reader(context.Background()).WriteTo(&got)
	} else {
		_, err = io.Copy(&got, struct{ io.Reader }{m.Reader(context.Background())})
	}
	if err == nil && !bytes.Equal(got.Bytes(), want) {
		err = fmt.Errorf("%d bytes read, not those that were written", got.Len())
	}
	return err
}

func TestSpaceIsNeverShort(t *testing.T) {
	m := NewMessage(200_000, newSpill(t, 1<<30))
	defer m.Release()
	for m.Size() < 400_000 {
		room := m.Space()
		if len(room) < minSpace {
			t.Fatalf("%d bytes at %d", len(room), m.Size())
		}
		if err := m.Commit(min(len(room), 777)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSpillLimits(t *testing.T) {
	broken := newSpill(t, 1<<30)
	broken.fail = errors.New("no such folder")
	for _, c := range []struct {
		name  string
		spill Spill
		want  error
	}{
		{"full", newSpill(t, 1000), ErrSpillFull},
		{"none", nil, ErrSpillFull},
		{"broken", broken, broken.fail},
	} {
		m := NewMessage(1, c.spill)
		n, err := m.Write(make([]byte, 2*chunkSize))
		if n != firstChunk || !errors.Is(err, c.want) {
			t.Errorf("%s: %d bytes, %v", c.name, n, err)
		}
		m.Abort(err)
		if _, err := m.Reader(context.Background()).Read(make([]byte, 1)); !errors.Is(err, c.want) {
			t.Errorf("%s: the reader gets %v", c.name, err)
		}
		m.Release()
		if s, ok := c.spill.(*diskSpill); ok && (s.left.Load() != 1000 && s.left.Load() != 1<<30 || s.files.Load() != 0) {
			t.Errorf("%s: %d bytes left, %d files open", c.name, s.left.Load(), s.files.Load())
		}
	}
}

// waiting runs read and returns once it waits; the result comes by the channel. It must be a read that looks at the
// message once: Header looks, lets go and waits only then.
func waiting(t *testing.T, m *Message, read func() error) <-chan error {
	t.Helper()
	result := make(chan error, 1)
	go func() { result <- read() }()
	for {
		m.mu.Lock()
		users := m.users
		m.mu.Unlock()
		if users > 0 {
			return result
		}
		select {
		case err := <-result:
			t.Fatalf("it did not wait: %v", err)
		default:
			runtime.Gosched()
		}
	}
}

func TestWaitingReadersAreWoken(t *testing.T) {
	stop := errors.New("client left")
	for _, c := range []struct {
		name string
		wake func(m *Message, cancel func())
		want error
	}{
		{"by Abort", func(m *Message, _ func()) { m.Abort(stop) }, stop},
		{"by the context", func(_ *Message, cancel func()) { cancel() }, context.Canceled},
		{"by Complete", func(m *Message, _ func()) { m.Complete() }, io.EOF},
		{"by bytes", func(m *Message, _ func()) { m.Write([]byte("x")) }, nil},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		m := NewMessage(1<<20, nil)
		result := waiting(t, m, func() error {
			_, err := m.Reader(ctx).Read(make([]byte, 1))
			return err
		})
		c.wake(m, cancel)
		if err := <-result; !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		cancel()
		m.Release()
	}
}

func TestReadersGiveUpAtOnce(t *testing.T) {
	m := NewMessage(1<<20, nil)
	m.Write([]byte("Subject: x\r\n\r\n"))
	ctx, cancel := context.WithDeadline(context.Background(), time.Unix(0, 0))
	defer cancel()
	if _, err := m.Reader(ctx).Read(make([]byte, 1)); err != context.DeadlineExceeded {
		t.Errorf("Read: %v", err)
	}
	if _, err := m.Header(ctx); err != context.DeadlineExceeded {
		t.Errorf("Header: %v", err)
	}
	if n, err := m.WriteRange(io.Discard, 0, 1); n != 0 || err == nil {
		t.Errorf("WriteRange of an unfinished message: %d, %v", n, err)
	}
	m.Complete()
	m.Abort(io.ErrUnexpectedEOF) // too late
	if err := m.Commit(1); err == nil {
		t.Error("Commit after Complete succeeds")
	}
	for _, r := range [][2]int64{{-1, 1}, {2, 1}, {0, 15}} {
		if n, err := m.WriteRange(io.Discard, r[0], r[1]); n != 0 || err == nil {
			t.Errorf("WriteRange%v: %d, %v", r, n, err)
		}
	}
	m.Release()
	if _, err := m.Reader(context.Background()).Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("Read after Release: %v", err)
	}
}

func TestReleaseUnderAReaderPanics(t *testing.T) {
	m := NewMessage(1<<20, nil)
	ctx, cancel := context.WithCancel(context.Background())
	result := waiting(t, m, func() error {
		_, err := m.Reader(ctx).Read(make([]byte, 1))
		return err
	})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		m.Release()
	}()
	cancel()
	<-result
	m.Release()
}

// A file that somebody has cut is an error, not a short message.
func TestCutSpillFile(t *testing.T) {
	m := NewMessage(0, newSpill(t, 1<<30))
	defer m.Release()
	m.Write(make([]byte, 5000))
	m.Complete()
	if err := m.file.(*spillFile).Truncate(100); err != nil {
		t.Fatal(err)
	}
	if _, err := m.WriteRange(io.Discard, 0, 5000); !errors.Is(err, ErrSpillRead) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("WriteRange: %v", err)
	}
	if _, err := m.Reader(context.Background()).WriteTo(io.Discard); !errors.Is(err, ErrSpillRead) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("WriteTo: %v", err)
	}
}

type failingWriter struct{ left int }

func (w *failingWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	w.left -= n
	if n < len(p) {
		return n, io.ErrClosedPipe
	}
	return n, nil
}

func TestWriteRangeCountsWhatWasWritten(t *testing.T) {
	m := NewMessage(100_000, newSpill(t, 1<<30))
	defer m.Release()
	m.Write(make([]byte, 300_000))
	m.Complete()
	for _, left := range []int{0, 1, 9000, 100_000, 250_000, 299_999} {
		if n, err := m.WriteRange(&failingWriter{left}, 0, 300_000); n != int64(left) || err != io.ErrClosedPipe {
			t.Errorf("WriteRange: %d, %v; want %d", n, err, left)
		}
	}
}

func TestWriteRangeToTCP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	m := NewMessage(1<<20, newSpill(t, 1<<30))
	defer m.Release()
	want := bytes.Repeat([]byte("0123456789abcde\n"), 200_000)
	m.Write(want)
	m.Complete()
	var sending sync.WaitGroup
	sending.Go(func() {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		if _, err := m.WriteRange(conn, 3, m.Size()); err != nil {
			t.Error(err)
		}
	})
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	conn.Close()
	sending.Wait()
	if err != nil || !bytes.Equal(got, want[3:]) {
		t.Errorf("%d bytes arrived, %v", len(got), err)
	}
}

func TestMessageAllocations(t *testing.T) {
	body := make([]byte, 4<<10)
	got := testing.AllocsPerRun(100, func() {
		m := NewMessage(1<<20, nil)
		m.Write(body)
		m.Complete()
		m.WriteRange(io.Discard, 0, int64(len(body)))
		m.Release()
	})
	if got > 3 { // the message, its list of chunks, the list for the write
		t.Errorf("%v allocations for a small message", got)
	}
}

func BenchmarkMessage(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20, 8 << 20} {
		for _, readers := range []int{1, 3} {
			b.Run(fmt.Sprintf("%dKiB/%d", size>>10, readers), func(b *testing.B) {
				spill := newSpill(b, 1<<40)
				body := make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					m := NewMessage(1<<20, spill)
					var reading sync.WaitGroup
					for range readers {
						reading.Go(func() { m.Reader(context.Background()).WriteTo(io.Discard) })
					}
					for rest := body; len(rest) > 0; {
						k := copy(m.Space(), rest[:min(len(rest), 32<<10)])
						if err := m.Commit(k); err != nil {
							b.Fatal(err)
						}
						rest = rest[k:]
					}
					m.Complete()
					reading.Wait()
					m.Release()
				}
			})
		}
	}
}
