package quarantine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/proxy/backend"
	"gatepost/proxy/backend/backendtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tb is what testing and rapid have in common.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

func testConfig(path string) Config {
	c := Defaults()
	c.Path, c.Size = path, 10<<20
	return c
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

// house is a quarantine and what is around it.
type house struct {
	*Quarantine
	clock *filtertest.Clock
	log   *safeBuffer
}

func openWith(t tb, c Config, o Options) *house {
	t.Helper()
	h := &house{log: &safeBuffer{}}
	if o.Clock == nil {
		h.clock = filtertest.NewClock()
		o.Clock = h.clock
	} else {
		h.clock, _ = o.Clock.(*filtertest.Clock)
	}
	o.Log = slog.New(slog.NewTextHandler(h.log, nil))
	q, err := Open(c, o)
	if err != nil {
		t.Fatal(err)
	}
	h.Quarantine = q
	return h
}

// open makes a quarantine in an empty folder, for as long as the test lasts.
func open(t *testing.T, o Options) *house {
	t.Helper()
	h := openWith(t, testConfig(filepath.Join(t.TempDir(), "state", "quarantine")), o)
	t.Cleanup(func() { h.Close() })
	return h
}

// again is what a new process finds.
func (h *house) again(t *testing.T) *house {
	t.Helper()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	other := openWith(t, h.config, Options{Clock: h.clock, Backend: h.backend})
	t.Cleanup(func() { other.Close() })
	return other
}

const letter = "From: Alice <alice@example.net>\r\nSubject: about\r\n the garden\r\n\r\nHello\r\n"

// entry is a letter to some recipients.
func entry(id string, recipients ...string) *Entry {
	e := &Entry{
		ID:          id,
		Rule:        Rule{"suspicious", "gatepost.yaml", 12},
		Reply:       "250 2.0.0 Message received (id " + id + ")",
		Client:      Client{Address: netip.MustParseAddrPort("192.0.2.7:4000"), Local: netip.MustParseAddrPort("198.51.100.1:25"), Helo: "client.test", Extended: true},
		ReversePath: "alice@example.net",
		Params:      []filters.Param{{Key: "SIZE", Value: "100", HasValue: true}},
		From:        "Alice <alice@example.net>",
		Subject:     "about the garden",
		Facts:       map[string]any{"dnsbl.score": 2.5, "rdns.names": []string{"a.test"}},
		Prepend:     []byte("X-Tag: yes\r\n"),
	}
	if len(recipients) == 0 {
		recipients = []string{"bob@example.org"}
	}
	for _, r := range recipients {
		e.Recipients = append(e.Recipients, Recipient{Address: r})
	}
	return e
}

func (h *house) keep(t tb, e *Entry, text string) {
	t.Helper()
	if err := h.Keep(e, bytes.NewReader([]byte(text)), int64(len(text))); err != nil {
		t.Fatal(err)
	}
}

// ids are those of the list, newest first.
func (h *house) ids(t tb) []string {
	t.Helper()
	var ids []string
	for query := (Query{Limit: 3}); ; {
		page, err := h.List(context.Background(), query)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page.Items {
			ids = append(ids, s.ID)
		}
		if query.Before = page.Next; page.Next == "" {
			return ids
		}
	}
}

// files are the names of all files in the folder but the lock.
func (h *house) files(t tb) []string {
	t.Helper()
	var names []string
	for _, folder := range []string{tmpFolder, newFolder, aboutFolder, damagedFolder} {
		list, err := os.ReadDir(h.config.folder(folder))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			names = append(names, folder+"/"+f.Name())
		}
	}
	return names
}

// withBackend runs a backend for what is released.
func withBackend(t *testing.T, b backendtest.Behaviour) (*backendtest.Server, Options) {
	t.Helper()
	server, err := backendtest.Start(b)
	if err != nil {
		t.Fatal(err)
	}
	config := backend.Default()
	config.Address = []string{server.Address()}
	group, err := backend.New(config, backend.Options{Hostname: "mx.test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { group.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		server.Close()
	})
	select {
	case <-group.Probed():
	case <-time.After(10 * time.Second):
		t.Fatal("the backend is not there")
	}
	return server, Options{Backend: func() (*backend.Group, func()) { return group, func() {} }}
}

func (h *house) release(t *testing.T, id string) *Outcome {
	t.Helper()
	o, err := h.Release(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// bodyOf fails behind some bytes.
type bodyOf struct {
	text string
	err  error
}

func (b bodyOf) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, b.text)
	if err == nil {
		err = b.err
	}
	return int64(n), err
}

func spans(pairs ...int64) (list []policy.Span) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, policy.Span{Start: pairs[i], End: pairs[i+1]})
	}
	return list
}

func idOf(n int) string { return fmt.Sprintf("38G29KFPP%04d.1", n) }
