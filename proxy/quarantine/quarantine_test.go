package quarantine

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy/front"
)

func TestKeepListShowDelete(t *testing.T) {
	h := open(t, Options{})
	for n := range 8 {
		h.keep(t, entry(idOf(n)), letter)
	}
	want := []string{idOf(7), idOf(6), idOf(5), idOf(4), idOf(3), idOf(2), idOf(1), idOf(0)}
	for range 2 {
		if got := h.ids(t); !slices.Equal(got, want) {
			t.Fatalf("listed %s", got)
		}
		page, err := h.List(t.Context(), Query{})
		if err != nil {
			t.Fatal(err)
		}
		s := page.Items[0]
		if s.Rule != "suspicious" || s.Client != "192.0.2.7" || s.Subject != "about the garden" || s.Waiting != 1 || s.Recipients[0] != "bob@example.org" ||
			s.Size != int64(len(letter)) || s.Expires.Sub(s.Kept) != 30*24*time.Hour || page.Total != 8 || page.Limit != 10<<20 {
			t.Errorf("%+v", page)
		}
		h = h.again(t)
	}
	d, err := h.Show(t.Context(), idOf(3))
	if err != nil {
		t.Fatal(err)
	}
	if d.Header != "From: Alice <alice@example.net>\r\nSubject: about\r\n the garden\r\n" || d.Facts["dnsbl.score"] != 2.5 || d.Rule.Line != 12 {
		t.Errorf("%+v", d)
	}
	text, err := os.ReadFile(d.File)
	if err != nil || string(text) != letter {
		t.Errorf("the file holds %q, %v", text, err)
	}
	if info, err := os.Stat(d.File); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	before := h.Stats()
	if err := h.Delete(t.Context(), idOf(3)); err != nil {
		t.Fatal(err)
	}
	if after := h.Stats(); after.Messages != 7 || after.Bytes != before.Bytes/8*7 {
		t.Errorf("%+v, then %+v", before, after)
	}
	for _, id := range []string{idOf(3), "", "../LOCK", "nobody"} {
		if err := h.Delete(t.Context(), id); !errors.Is(err, ErrUnknown) {
			t.Errorf("delete %q: %v", id, err)
		}
		if _, err := h.Show(t.Context(), id); !errors.Is(err, ErrUnknown) {
			t.Errorf("show %q: %v", id, err)
		}
		if _, err := h.Release(t.Context(), id); !errors.Is(err, ErrUnknown) {
			t.Errorf("release %q: %v", id, err)
		}
	}
	if h.again(t).Stats().Messages != 7 {
		t.Error("it is there again after a restart")
	}
}

func TestIDsAreFileNamesOrNothing(t *testing.T) {
	h := open(t, Options{})
	for _, id := range []string{"", ".", "..", "../x", "a/b", "a\x00b", "a b", ".hidden", strings.Repeat("x", 65)} {
		if err := h.Keep(entry(id), bytes.NewReader([]byte(letter)), int64(len(letter))); err == nil {
			t.Errorf("%q is taken", id)
		}
	}
	h.keep(t, entry(idOf(1)), letter)
	if err := h.Keep(entry(idOf(1)), bytes.NewReader([]byte("other")), 5); err == nil {
		t.Error("a message takes the place of another")
	}
	if text, err := os.ReadFile(h.config.File(idOf(1))); err != nil || string(text) != letter {
		t.Errorf("it holds %q, %v", text, err)
	}
}

func TestABodyThatFails(t *testing.T) {
	h := open(t, Options{})
	for _, body := range []bodyOf{{"short", nil}, {letter + "long", nil}, {letter[:10], filters.ErrSpillRead}, {letter, filters.ErrSpillRead}} {
		if err := h.Keep(entry(idOf(1)), body, int64(len(letter))); err == nil {
			t.Errorf("%+v is kept", body)
		}
	}
	if files := h.files(t); len(files) > 0 || h.Stats().Bytes != 0 || h.Metrics().Errors.Load() != 4 {
		t.Errorf("left: %s, %+v", files, h.Stats())
	}
}

// Nothing that somebody was told 250 for makes room for another, and copies leave some.
func TestRoom(t *testing.T) {
	h := open(t, Options{})
	text := letter + strings.Repeat("x", 1<<20-len(letter))
	kept := 0
	for ; kept < 20; kept++ {
		e := entry(idOf(kept))
		e.Copy = true
		if err := h.Keep(e, bytes.NewReader([]byte(text)), int64(len(text))); err != nil {
			if !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			break
		}
	}
	if kept != 7 {
		t.Errorf("%d copies of 1 MiB are kept, want the 7 that 80 %% of 10 MiB have room for", kept)
	}
	for ; kept < 20; kept++ {
		if err := h.Keep(entry(idOf(kept)), bytes.NewReader([]byte(text)), int64(len(text))); err != nil {
			if !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			break
		}
	}
	s, m := h.Stats(), h.Metrics()
	if kept != 9 || s.Bytes > s.Limit || len(h.ids(t)) != 9 || m.Full.Load() != 2 || m.Copies.Load() != 7 || m.Kept.Load() != 2 {
		t.Errorf("%d messages, %+v", kept, s)
	}
	h.sweep()
	h.sweep()
	if n := strings.Count(h.log.String(), "little room is left"); n != 1 || !h.Stats().Crowded {
		t.Errorf("the log tells of it %d times:\n%s", n, h.log)
	}
	onDisk := int64(0)
	for _, name := range h.files(t) {
		info, err := os.Stat(filepath.Join(h.config.Path, name))
		if err != nil {
			t.Fatal(err)
		}
		onDisk += info.Size()
	}
	if onDisk != s.Bytes || h.again(t).Stats().Bytes != onDisk {
		t.Errorf("%d bytes are on disk, counted are %d", onDisk, s.Bytes)
	}
}

func TestNothingExpiresUnannounced(t *testing.T) {
	h := open(t, Options{})
	h.keep(t, entry(idOf(1)), letter)
	h.clock.Advance(time.Hour)
	h.keep(t, entry(idOf(2)), letter)
	day := 24 * time.Hour
	step := func(d time.Duration, messages, expiring, warnings int) {
		t.Helper()
		h.clock.Advance(d)
		h.sweep()
		if s := h.Stats(); s.Messages != messages || s.Expiring != expiring || strings.Count(h.log.String(), "are going to be removed") != warnings {
			t.Fatalf("%+v, want %d, %d expiring; the log:\n%s", s, messages, expiring, h.log)
		}
	}
	step(29*day-2*time.Hour, 2, 0, 0)
	step(time.Hour, 2, 1, 1) // the day before
	step(time.Hour, 2, 2, 2)
	step(day-time.Hour, 1, 1, 2)
	h = h.again(t) // the first day's warning is forgotten: it is said again, and time given again
	step(2*time.Hour, 1, 1, 1)
	step(day-time.Minute, 1, 1, 1)
	page, err := h.List(t.Context(), Query{})
	if err != nil || page.Items[0].Expires.Sub(h.clock.Now()) != time.Minute || !page.Items[0].Expiring || page.Expiring != 1 {
		t.Errorf("%+v, %v", page, err)
	}
	step(time.Minute, 0, 0, 1)
	if h.Metrics().Expired.Load() != 1 || len(h.files(t)) > 0 {
		t.Errorf("left: %s", h.files(t))
	}
}

func TestWhatABadEndHasLeft(t *testing.T) {
	h := open(t, Options{})
	for n := range 8 {
		h.keep(t, entry(idOf(n)), letter)
	}
	c := &h.config
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Truncate(c.File(idOf(0)), 10),
		os.Remove(c.about(idOf(1))),
		os.WriteFile(c.about(idOf(2)), []byte("{"), 0o600),
		os.Rename(c.about(idOf(3)), c.about(idOf(4))), // 3 has none, and 4 that of another
		os.Remove(c.File(idOf(5))),                    // it was being removed
		os.WriteFile(c.temporary(idOf(9)), []byte("half"), 0o600),
		os.WriteFile(c.temporary(idOf(9)+aboutSuffix), []byte("{"), 0o600),
		os.Mkdir(c.File("folder"), 0o700),
		os.WriteFile(c.File("bad name"), nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	h = openWith(t, h.config, Options{Clock: h.clock})
	defer h.Close()
	if got := h.ids(t); !slices.Equal(got, []string{idOf(7), idOf(6)}) {
		t.Errorf("listed %s", got)
	}
	want := []string{"new/" + idOf(6), "new/" + idOf(7), "new/bad name", "new/folder", "about/" + idOf(6) + ".json", "about/" + idOf(7) + ".json",
		"damaged/" + idOf(0), "damaged/" + idOf(0) + ".json", "damaged/" + idOf(1), "damaged/" + idOf(2), "damaged/" + idOf(2) + ".json",
		"damaged/" + idOf(3), "damaged/" + idOf(4), "damaged/" + idOf(4) + ".json"}
	if got := h.files(t); !reflect.DeepEqual(got, want) {
		t.Errorf("files\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, n := range []int{0, 1, 2, 3, 4} {
		if !strings.Contains(h.log.String(), "set aside\" id="+idOf(n)) {
			t.Errorf("the log does not tell of %s:\n%s", idOf(n), h.log)
		}
	}
}

// What a later release has kept stays where it is, with its side file, until that release is back; what this one cannot
// read for another reason likewise. Fields that a later release has added are passed over.
func TestMessagesOfALaterRelease(t *testing.T) {
	h := open(t, Options{})
	for _, n := range []int{1, 2, 3} {
		h.keep(t, entry(idOf(n)), letter)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	change := func(n int, old, with string) {
		t.Helper()
		path := h.config.about(idOf(n))
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, bytes.Replace(text, []byte(old), []byte(with), 1), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	change(1, `"format":1`, `"format":1,"new":{"deep":[1,"two"]}`)
	change(2, `"format":1`, `"format":2`)
	// Root may read everything; a folder is a side file that nobody can read.
	if err := errors.Join(os.Remove(h.config.about(idOf(3))), os.Mkdir(h.config.about(idOf(3)), 0o700)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		other := openWith(t, h.config, Options{Clock: h.clock})
		if got := other.ids(t); !slices.Equal(got, []string{idOf(1)}) {
			t.Errorf("listed %s", got)
		}
		for _, n := range []int{2, 3} {
			if !strings.Contains(other.log.String(), "left alone, and is looked at again at the next start\" id="+idOf(n)) {
				t.Errorf("the log does not tell of %s:\n%s", idOf(n), other.log)
			}
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
	}
	change(2, `"format":2`, `"format":1`)
	other := openWith(t, h.config, Options{Clock: h.clock})
	defer other.Close()
	if got := other.ids(t); !slices.Equal(got, []string{idOf(2), idOf(1)}) {
		t.Errorf("after the later release is back: %s", got)
	}
}

// A side file that the first release wrote is read by every later one, to the last value. It must never change.
func TestVersion1IsReadForever(t *testing.T) {
	text, err := os.ReadFile("testdata/v1.json")
	if err != nil {
		t.Fatal(err)
	}
	e, err := parseEntry(text, "38G29KFPR000V.1")
	if err != nil {
		t.Fatal(err)
	}
	want := entry("38G29KFPR000V.1", "bob@example.org", "eve@example.org")
	want.Format, want.Kept, want.Size, want.Copy, want.Score = 1, time.Date(2026, 11, 22, 7, 24, 44, 123456789, time.UTC), 100, true, 4.5
	want.Client.Name, want.Client.ReverseName, want.Client.User = "client.example.net", "client.example.net", "anna"
	want.Recipients[1].Params, want.Recipients[1].Released, want.Recipients[1].Reply = []filters.Param{{Key: "NOTIFY", Value: "NEVER", HasValue: true}}, want.Kept.Add(time.Hour), "250 2.0.0 Ok"
	want.Facts["rdns.names"] = []any{"a.test"} // as JSON has it
	want.Cut, want.Digest = []policy.Span{{Start: 3, End: 9}}, strings.Repeat("0a", 32)
	if !reflect.DeepEqual(e, want) {
		t.Errorf("read %+v\nwant %+v", e, want)
		if golden, err := json.Marshal(want); err == nil {
			t.Logf("%s", golden)
		}
	}
}

func TestOneProcessAtATime(t *testing.T) {
	h := open(t, Options{})
	if _, err := Open(h.config, Options{Clock: h.clock, Log: h.Quarantine.log}); !errors.Is(err, front.ErrOwned) {
		t.Errorf("a second one: %v", err)
	}
	h.keep(t, entry(idOf(1)), letter)
	if err := errors.Join(h.Close(), h.Close()); err != nil {
		t.Fatal(err)
	}
	if err := h.Keep(entry(idOf(2)), bytes.NewReader(nil), 0); err == nil {
		t.Error("a message is kept behind the end")
	}
	if err := h.Delete(t.Context(), idOf(1)); err == nil {
		t.Error("a message is removed behind the end")
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add([]byte(`{"format":1,"id":"a","recipients":[{"address":"b@example.org"}],"size":10,"cut":[{"Start":1,"End":2}]}`))
	f.Add([]byte(`{"format":2,"id":"a"}`))
	f.Add([]byte(`{"format":1,"id":"a","recipients":[{}],"size":10,"cut":[{"Start":-5,"End":2},{"Start":1,"End":99}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := parseEntry(text, "a")
		if err != nil {
			return
		}
		if e.Size > 1<<20 {
			return
		}
		d := &delivery{entry: e, message: bytes.NewReader(make([]byte, e.Size))}
		parts := d.parts()
		var out bytes.Buffer
		if n, err := parts.Body.WriteTo(&out); err != nil || n != parts.Size-int64(len(e.Prepend)) || n != int64(out.Len()) {
			t.Errorf("%d bytes are written, %d were announced: %v", n, parts.Size, err)
		}
	})
}
