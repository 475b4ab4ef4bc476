package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/proxy/store"
)

// anyMemory is what a test puts into a store.
type anyMemory struct {
	marks     map[string]map[string]filters.Mark // by space and key
	standings map[string]filters.Standing
}

// anyState draws marks and standings, with keys of any bytes, some of them expired.
func anyState(now time.Time) *rapid.Generator[anyMemory] {
	moment := rapid.Custom(func(t *rapid.T) time.Time {
		return now.Add(time.Duration(rapid.Int64Range(-1e9, 1e9).Draw(t, "ms")) * time.Millisecond)
	})
	key := rapid.OneOf(rapid.StringN(1, 40, 200), rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 700), func(b []byte) string { return string(b) }))
	// Nothing ends while the test runs.
	expiry := rapid.Map(rapid.Bool(), func(expired bool) time.Duration {
		if expired {
			return -time.Hour
		}
		return 100 * time.Hour
	})
	mark := rapid.Custom(func(t *rapid.T) filters.Mark {
		m := filters.Mark{First: moment.Draw(t, "first"), Last: moment.Draw(t, "last"), Expires: now.Add(expiry.Draw(t, "expires")), Attempts: rapid.Uint32().Draw(t, "attempts")}
		if rapid.Bool().Draw(t, "has passed") {
			m.Passed = moment.Draw(t, "passed")
		}
		return m
	})
	count := rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(1, 1e6))
	standing := rapid.Custom(func(t *rapid.T) filters.Standing {
		return filters.NewStanding(moment.Draw(t, "at"), filters.Counts{Delivered: count.Draw(t, "d"), Refused: count.Draw(t, "r"), Unknown: count.Draw(t, "u"), Trapped: count.Draw(t, "t")},
			time.Duration(rapid.Int64Range(1e6, 1e8).Draw(t, "half-life"))*time.Second)
	})
	space := rapid.StringMatching(`[a-z]{1,12}`)
	return rapid.Custom(func(t *rapid.T) anyMemory {
		return anyMemory{rapid.MapOfN(space, rapid.MapOfN(key, mark, 1, 30), 1, 6).Draw(t, "marks"), rapid.MapOfN(key, standing, 0, 40).Draw(t, "standings")}
	})
}

func (r anyMemory) put(t *testing.T, s *store.Store) {
	t.Helper()
	for space, marks := range r.marks {
		for key, m := range marks {
			if err := s.Merge(t.Context(), space, []string{store.Shorten(key)}, []filters.Mark{m}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for key, standing := range r.standings {
		s.Add(key, standing)
	}
}

// stateIn opens a store in a folder, lets do have it, and closes it.
func stateIn(t *testing.T, folder string, do func(s *store.Store)) store.Config {
	t.Helper()
	c := store.Defaults()
	c.Path = folder
	s, err := store.Open(c, filters.SystemClock{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	do(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return c
}

// exported returns the lines of an export but its head, in an order of their own.
func exported(t *testing.T, c store.Config) (text string, lines []string) {
	t.Helper()
	var b bytes.Buffer
	if err := exportState(t.Context(), c, "embedded", &b, io.Discard); err != nil {
		t.Fatal(err)
	}
	lines = strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")[1:]
	slices.Sort(lines)
	return b.String(), lines
}

// What an export has, an import into an empty store brings back to the last line; a second import changes nothing.
func TestStateComesBack(t *testing.T) {
	for seed := range 6 {
		now := time.Now()
		state := anyState(now).Example(seed)
		old := stateIn(t, t.TempDir(), func(s *store.Store) { state.put(t, s) })
		text, lines := exported(t, old)
		fresh := stateIn(t, t.TempDir(), func(*store.Store) {})
		for round := range 2 {
			if err := importState(t.Context(), fresh, "embedded", strings.NewReader(text), io.Discard); err != nil {
				t.Fatal(err)
			}
			_, again := exported(t, fresh)
			if !slices.Equal(lines, again) {
				t.Fatalf("seed %d, import %d: %d lines became %d:\n%s\n\n%s", seed, round+1, len(lines), len(again), strings.Join(lines, "\n"), strings.Join(again, "\n"))
			}
		}
		if len(lines) < 3 {
			t.Errorf("seed %d shows nothing: %q", seed, lines)
		}
	}
}

// An import makes nothing older: what the store has learned since the export stays.
func TestAnImportMakesNothingOlder(t *testing.T) {
	ctx, key := t.Context(), []string{"n:192.0.2.0/24|alice@example.org"}
	var before filters.Mark
	c := stateIn(t, t.TempDir(), func(s *store.Store) {
		if err := s.Pass(ctx, "greylist", key, time.Hour); err != nil {
			t.Fatal(err)
		}
		s.Tally("example.org", filters.Counts{Delivered: 1}, time.Hour)
	})
	text, _ := exported(t, c)
	stateIn(t, c.Path, func(s *store.Store) {
		if err := s.Pass(ctx, "greylist", key, 100*time.Hour); err != nil {
			t.Fatal(err)
		}
		marks, err := s.Peek(ctx, "greylist", key)
		if err != nil {
			t.Fatal(err)
		}
		before = marks[0]
		s.Tally("example.org", filters.Counts{Delivered: 5}, time.Hour)
	})
	if err := importState(ctx, c, "embedded", strings.NewReader(text), io.Discard); err != nil {
		t.Fatal(err)
	}
	stateIn(t, c.Path, func(s *store.Store) {
		if marks, err := s.Peek(ctx, "greylist", key); err != nil || marks[0] != before {
			t.Errorf("%+v became %+v; %v", before, marks, err)
		}
		if st, err := s.Standings(ctx, []string{"example.org"}); err != nil || st[0].Delivered < 5.9 {
			t.Errorf("6 deliveries became %+v; %v", st, err)
		}
	})
}

const goodMark = `{"space":"greylist","key":"a","first":"2026-11-22T10:00:00Z","last":"2026-11-22T10:00:00Z","expires":"2999-01-01T00:00:00Z","attempts":1}`

func TestLinesThatAreNotUnderstood(t *testing.T) {
	head := `{"gatepost_state":1,"written":"2026-11-22T10:45:00Z","by":"v1","marks":1}` + "\n"
	for name, test := range map[string]struct{ text, want string }{
		"nothing":                {"", "no file of gatepost state export"},
		"something else":         {"VERSION=3\n", "no file of gatepost state export"},
		"of a later release":     {`{"gatepost_state":2,"by":"v9"}` + "\n", `format 2 and was written by gatepost "v9"`},
		"no JSON":                {head + goodMark + "\nnonsense\n", "line 3 is not understood"},
		"no space":               {head + strings.Replace(goodMark, "greylist", "", 1) + "\n", "line 2 is not understood"},
		"no end of life":         {head + strings.Replace(goodMark, "expires", "expired", 1) + "\n", "line 2 is not understood"},
		"a negative count":       {head + `{"key":"a","standing":{"delivered":-1,"at":"2026-11-22T10:00:00Z","half_life":3600000000000}}` + "\n", "line 2 is not understood"},
		"a standing of no time":  {head + `{"key":"a","standing":{"delivered":1,"half_life":3600000000000}}` + "\n", "line 2 is not understood"},
		"a line without end":     {head + goodMark + "\n" + strings.Repeat("x", maxStateLine+10), "line 3 is longer"},
		"a part of a file":       {head + goodMark + "\n", "ends after line 2"},
		"half a line":            {head + goodMark + "\n" + goodMark[:50], "line 3 is not understood"},
		"a line is missing":      {head + goodMark + "\n" + `{"end":{"marks":2,"standings":0}}` + "\n", "lines are missing"},
		"mark behind a standing": {head + `{"key":"a","standing":{"delivered":1,"at":"2026-11-22T10:00:00Z","half_life":3600000000000}}` + "\n" + goodMark + "\n", "line 3 is not understood"},
	} {
		t.Run(name, func(t *testing.T) {
			c := store.Defaults()
			c.Path = t.TempDir()
			if err := importState(t.Context(), c, "embedded", strings.NewReader(test.text), io.Discard); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("want %q, got %v", test.want, err)
			}
			if strings.Contains(test.text, goodMark+"\n") && !strings.Contains(test.text, `"standing":{"delivered":1`) {
				if _, lines := exported(t, c); len(lines) != 2 {
					t.Errorf("the line before was not taken: %q", lines)
				}
			}
		})
	}
}

// What a later release adds to a line is passed over.
func TestNewFieldsOfAStateFileArePassedOver(t *testing.T) {
	text := `{"gatepost_state":1,"by":"v1.1","host":"mx"}` + "\n" + strings.Replace(goodMark, "{", `{"new":{"a":[1]},`, 1) + "\n" + `{"end":{"marks":1,"standings":0,"others":0}}` + "\n"
	c := store.Defaults()
	c.Path = t.TempDir()
	if err := importState(t.Context(), c, "embedded", strings.NewReader(text), io.Discard); err != nil {
		t.Fatal(err)
	}
	if _, lines := exported(t, c); len(lines) != 2 || !strings.Contains(lines[1], `"key":"a"`) {
		t.Errorf("%q", lines)
	}
}

func FuzzStateFile(f *testing.F) {
	f.Add([]byte(`{"gatepost_state":1}` + "\n" + goodMark + "\n" + `{"key":"a","standing":{"delivered":1,"at":"2026-11-22T10:00:00Z","half_life":3600000000000}}` + "\n" + `{"end":{"marks":1,"standings":1}}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := newStateReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := newStateWriter(io.Discard, time.Now(), 0)
		if err != nil {
			t.Fatal(err)
		}
		err = s.each(t.Context(), func(space, key string, m filters.Mark) bool {
			if err := again.merge(t.Context(), space, []string{key}, []filters.Mark{m}); err != nil {
				t.Errorf("what was read cannot be written: %v", err)
			}
			return true
		})
		if err != nil {
			return
		}
		_ = s.eachStanding(t.Context(), func(key string, st filters.Standing) bool {
			if err := again.mergeStandings(t.Context(), []string{key}, []filters.Standing{st}); err != nil {
				t.Errorf("what was read cannot be written: %v", err)
			}
			return true
		})
	})
}

// The commands work on a proxy that runs, and a file that is being written takes its name when it is whole.
func TestStateOfARunningProxy(t *testing.T) {
	old := startServe(t, "filters: {greylist: {delay: 1s}}\nrules:\n  - {name: grey, when: 'mail.address != \"\"', then: greylist}\n")
	old.recipient("nina@new.test", "451")
	file := filepath.Join(old.folder, "backup.jsonl")
	write(t, file, "the backup of yesterday")
	if text, status := old.command("state", "export", "--file", file); status != 0 || !strings.Contains(text, "Marks copied: ") {
		t.Fatalf("%d %s", status, text)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if left, err := filepath.Glob(file + ".part*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q %v", left, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var head stateHead
	if err := json.Unmarshal(text[:bytes.IndexByte(text, '\n')], &head); err != nil || head.Format != stateFormat || time.Since(head.Written) > time.Hour {
		t.Errorf("%+v %v", head, err)
	}
	fresh := startServe(t, "filters: {greylist: {delay: 1s}}\nrules:\n  - {name: grey, when: 'mail.address != \"\"', then: greylist}\n")
	if text, status := fresh.command("state", "import", "--file", file); status != 0 {
		t.Fatalf("%d %s", status, text)
	}
	if text, status := fresh.command("greylist", "show", "nina@new.test"); status != 0 || !strings.Contains(text, "attempts  1") {
		t.Errorf("%d %s", status, text)
	}
	write(t, file, fmt.Sprintf("%s\nnonsense\n", text[:bytes.IndexByte(text, '\n')]))
	if text, status := fresh.command("state", "import", "--file", file); status != 1 || !strings.Contains(text, "backup.jsonl: line 2 is not understood") {
		t.Errorf("%d %s", status, text)
	}
}

// A folder that cannot be read is set aside and mail goes on; one of a later release ends the start for good, unchanged.
func TestStartsWithABadFolder(t *testing.T) {
	s := startServe(t, unpaused)
	s.recipient("nina@new.test", "250")
	stop := func() {
		t.Helper()
		s.signal(syscall.SIGTERM)
		if status := s.exit(); status != 0 {
			t.Fatalf("exit status %d", status)
		}
	}
	one := func(pattern string) string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(s.folder, "state", pattern))
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: %q %v", pattern, found, err)
		}
		return found[0]
	}
	stop()
	if err := os.Remove(one("marks/marker.manifest.*")); err != nil {
		t.Fatal(err)
	}
	s.run()
	s.awaitLog("gatepost state import")
	s.recipient("nina@new.test", "250")
	one("marks.corrupt-*")
	stop()
	if err := os.Rename(one("marks/marker.format-version.*"), filepath.Join(s.folder, "state", "marks", "marker.format-version.000900.999")); err != nil {
		t.Fatal(err)
	}
	if text, status := s.command("serve"); status != noRestart || !strings.Contains(text, "written by a later release") {
		t.Errorf("status %d: %s", status, text)
	}
	one("marks/marker.manifest.*")
	one("marks.corrupt-*")
}
