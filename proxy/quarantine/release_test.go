package quarantine

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/proxy/backend/backendtest"
)

func TestReleaseByteForByte(t *testing.T) {
	server, o := withBackend(t, backendtest.Behaviour{})
	h := open(t, o)
	long := letter + strings.Repeat("..\x80\xff long\r\n.\r\n", 20_000)
	for n, e := range []*Entry{entry(idOf(0)), entry(idOf(1), "bob@example.org", "carol@example.com"), entry(idOf(2))} {
		e.Params = append(e.Params, filters.Param{Key: "BODY", Value: "8BITMIME", HasValue: true})
		text := letter
		if n > 0 {
			text = long
		}
		if n == 2 {
			e.Cut, e.ReversePath = spans(0, 7, 36, 60), ""
			e.Recipients[0].Params = []filters.Param{{Key: "NOTIFY", Value: "NEVER", HasValue: true}}
		}
		h.keep(t, e, text)
	}
	h = h.again(t) // a release does not need the process that has kept it
	for n := range 3 {
		if o := h.release(t, idOf(n)); !o.Delivered || o.Left != 0 || o.Backend != server.Address() || !strings.HasPrefix(o.Reply, "250 2.0.0 Ok: queued as") {
			t.Errorf("%+v", o)
		}
	}
	got := server.Messages()
	want := []string{"X-Tag: yes\r\n" + letter, "X-Tag: yes\r\n" + long, "X-Tag: yes\r\n" + long[7:36] + long[60:]}
	for n, text := range want {
		if string(got[n].Data) != text {
			t.Errorf("message %d has %d bytes, want %d, or others", n, len(got[n].Data), len(text))
		}
		if got[n].Client.String() != "192.0.2.7:4000" || got[n].Helo != "client.test" {
			t.Errorf("it came from %v, %s", got[n].Client, got[n].Helo)
		}
	}
	if got[1].From != "<alice@example.net> SIZE=100 BODY=8BITMIME" || !reflect.DeepEqual(got[1].To, []string{"<bob@example.org>", "<carol@example.com>"}) ||
		got[2].From != "<> SIZE=100 BODY=8BITMIME" || got[2].To[0] != "<bob@example.org> NOTIFY=NEVER" {
		t.Errorf("%q %q %q %q", got[1].From, got[1].To, got[2].From, got[2].To)
	}
	if len(h.files(t)) > 0 || h.Metrics().Released.Load() != 3 || h.Stats().Bytes != 0 {
		t.Errorf("left: %s, %+v", h.files(t), h.Stats())
	}
}

func TestReleaseToSome(t *testing.T) {
	server, o := withBackend(t, backendtest.Behaviour{Mailboxes: []string{"bob@example.org"}})
	h := open(t, o)
	h.keep(t, entry(idOf(1), "nobody@example.org", "bob@example.org", "none@example.org"), letter)
	got := h.release(t, idOf(1))
	if !got.Delivered || got.Left != 2 || !strings.HasPrefix(got.Recipients[0].Reply, "550 ") || got.Recipients[0].Delivered || !got.Recipients[1].Delivered {
		t.Errorf("%+v", got)
	}
	h = h.again(t)
	page, err := h.List(t.Context(), Query{})
	if err != nil || page.Items[0].Waiting != 2 || page.Items[0].Recipients[1] != "none@example.org" {
		t.Errorf("%+v, %v", page, err)
	}
	d, err := h.Show(t.Context(), idOf(1))
	if err != nil || d.Recipients[1].Released.IsZero() || !d.Recipients[0].Released.IsZero() || !strings.HasPrefix(d.Recipients[0].Reply, "550 ") {
		t.Errorf("%+v, %v", d, err)
	}
	got = h.release(t, idOf(1)) // nobody gets it twice
	if got.Delivered || got.Left != 2 || len(got.Recipients) != 2 || len(server.Messages()) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestReleaseRefused(t *testing.T) {
	for _, test := range []struct{ command, reply, final string }{
		{"MAIL", "550 5.7.1 not you", "550 5.7.1 not you"},
		{"RCPT", "450 4.2.0 later", ""},
		{"RCPT", "421 4.3.0 going down", ""},
		{"MAIL", "421 4.3.0 going down", "421 4.3.0"},
		{".", "554 5.6.0 spam", "554 5.6.0 spam"},
		{".", "451 4.3.0 later", "451 4.3.0 later"},
		{"DATA", "550 5.7.1 no", "550 5.7.1 no"},
	} {
		var armed atomic.Bool // the group's probes are over when it is
		server, o := withBackend(t, backendtest.Behaviour{Keywords: []string{"PIPELINING", "SIZE 10240000"}, Answer: func(_ *backendtest.Session, line string) string {
			if verb, _, _ := strings.Cut(line, " "); armed.Load() && verb == test.command {
				return test.reply
			}
			return ""
		}})
		h := open(t, o)
		h.keep(t, entry(idOf(1)), letter)
		armed.Store(true)
		got := h.release(t, idOf(1))
		if got.Delivered || got.Left != 1 || !strings.HasPrefix(got.Reply, test.final) || len(h.ids(t)) != 1 || len(server.Messages()) != 0 {
			t.Errorf("%s %s: %+v", test.command, test.reply, got)
		}
		armed.Store(false)
		if got := h.release(t, idOf(1)); !got.Delivered {
			t.Errorf("%s %s: later: %+v", test.command, test.reply, got)
		}
	}
}

func TestReleaseLost(t *testing.T) {
	server, o := withBackend(t, backendtest.Behaviour{Keywords: []string{"PIPELINING", "SIZE 10240000"}, Answer: func(_ *backendtest.Session, line string) string {
		if line == "." {
			return backendtest.Hangup
		}
		return ""
	}})
	h := open(t, o)
	h.keep(t, entry(idOf(1)), letter)
	if _, err := h.Release(t.Context(), idOf(1)); err == nil || !strings.Contains(err.Error(), "it may have been delivered; released again, it may come twice") {
		t.Errorf("%v", err)
	}
	if len(h.ids(t)) != 1 {
		t.Error("it is gone")
	}
	server.Close()
	if _, err := h.Release(t.Context(), idOf(1)); err == nil || len(h.ids(t)) != 1 {
		t.Errorf("without a backend: %v", err)
	}
}

func TestReleaseOfWhatWasChanged(t *testing.T) {
	server, o := withBackend(t, backendtest.Behaviour{})
	h := open(t, o)
	h.keep(t, entry(idOf(1)), letter)
	if err := os.WriteFile(h.config.File(idOf(1)), []byte(strings.ToUpper(letter)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Release(t.Context(), idOf(1)); err == nil || !strings.Contains(err.Error(), "not what was kept") || len(server.Messages()) != 0 {
		t.Errorf("%v", err)
	}
}

// While a message is on its way nobody else has it; the end of the process gives it up, and it stays.
func TestReleaseTakesItsTime(t *testing.T) {
	began, end := make(chan bool), make(chan bool)
	defer close(end)
	_, o := withBackend(t, backendtest.Behaviour{Deliver: func(*backendtest.Message) error { close(began); <-end; return nil }})
	h := open(t, o)
	h.keep(t, entry(idOf(1)), letter)
	released := make(chan error)
	go func() { _, err := h.Release(t.Context(), idOf(1)); released <- err }()
	<-began
	if _, err := h.Release(t.Context(), idOf(1)); !errors.Is(err, ErrBusy) {
		t.Errorf("a second release: %v", err)
	}
	if err := h.Delete(t.Context(), idOf(1)); !errors.Is(err, ErrBusy) {
		t.Errorf("a deletion: %v", err)
	}
	h.clock.Advance(365 * 24 * time.Hour)
	h.sweep()
	h.clock.Advance(365 * 24 * time.Hour)
	h.sweep()
	if page, err := h.List(t.Context(), Query{}); err != nil || len(page.Items) != 1 || !page.Items[0].Busy {
		t.Errorf("%+v, %v", page, err)
	}
	closed := make(chan error)
	go func() { closed <- h.Close() }()
	if err := <-released; err == nil || !strings.Contains(err.Error(), "may have been delivered") {
		t.Errorf("%v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	again := openWith(t, h.config, Options{Clock: h.clock})
	defer again.Close()
	if len(again.ids(t)) != 1 {
		t.Error("it is gone")
	}
}
