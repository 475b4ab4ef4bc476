package quarantine

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Whatever many do at once, the index is what is on disk in the end.
func TestManyAtOnce(t *testing.T) {
	h := open(t, Options{})
	var working sync.WaitGroup
	var mu sync.Mutex // guards want
	var want []string
	for w := range 8 {
		working.Go(func() {
			for n := range 20 {
				id := idOf(100*n + w)
				h.keep(t, entry(id), letter)
				if n%3 == 0 {
					if err := h.Delete(context.Background(), id); err != nil {
						t.Errorf("%s: %v", id, err)
					}
					continue
				}
				mu.Lock()
				want = append(want, id)
				mu.Unlock()
			}
		})
	}
	for range 4 {
		working.Go(func() {
			for range 10 {
				page, err := h.List(context.Background(), Query{Limit: 20})
				if err != nil {
					t.Error(err)
				}
				for _, s := range page.Items {
					if s.Problem != "" && s.Problem != "it has just been removed" {
						t.Errorf("%+v", s)
					}
				}
				h.sweep()
			}
		})
	}
	working.Wait()
	slices.Sort(want)
	slices.Reverse(want)
	if got := h.ids(t); !slices.Equal(got, want) {
		t.Errorf("listed %s\nwant %s", got, want)
	}
	before := h.Stats()
	if got := h.again(t); !slices.Equal(got.ids(t), want) || got.Stats() != before {
		t.Errorf("after a restart: %+v, before %+v", got.Stats(), before)
	}
}

func BenchmarkKeep(b *testing.B) {
	for _, size := range []int{2 << 10, 1 << 20} {
		for _, sessions := range []int{1, 16} {
			b.Run(fmt.Sprintf("%d bytes, %d sessions", size, sessions), func(b *testing.B) {
				config := testConfig(b.TempDir())
				config.Size = 1 << 46
				h := openWith(b, config, Options{})
				defer h.Close()
				text := letter + strings.Repeat("x", size-len(letter))
				started := time.Now()
				b.ReportAllocs()
				b.ResetTimer()
				var working sync.WaitGroup
				for w := range sessions {
					working.Go(func() {
						for n := w; n < b.N; n += sessions {
							e := entry(fmt.Sprintf("%012d.1", n))
							if err := h.Keep(e, bytes.NewReader([]byte(text)), int64(len(text))); err != nil {
								b.Error(err)
							}
						}
					})
				}
				working.Wait()
				b.ReportMetric(float64(b.N)/time.Since(started).Seconds(), "messages/s")
			})
		}
	}
}

// BenchmarkOpen is a start with 10,000 messages.
func BenchmarkOpen(b *testing.B) {
	config := testConfig(b.TempDir())
	config.Size = 1 << 46
	h := openWith(b, config, Options{disk: quickDisk{}})
	for n := range 10_000 {
		h.keep(b, entry(fmt.Sprintf("%012d.1", n)), letter)
	}
	if err := h.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := openWith(b, config, Options{}).Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// quickDisk does not sync.
type quickDisk struct{ osDisk }

func (quickDisk) SyncFolder(string) error { return nil }

func (d quickDisk) Create(path string) (file, error) {
	f, err := d.osDisk.Create(path)
	return quickFile{f}, err
}

type quickFile struct{ file }

func (quickFile) Sync() error { return nil }
