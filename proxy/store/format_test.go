package store

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

var writeGolden = flag.Bool("write-golden", false, "write testdata anew; only where a format is new")

// goldenMarks and goldenStandings must never change: the folder in testdata was written from them.
var (
	goldenMarks = map[string]filters.Mark{
		"waits":  {First: filtertest.Start, Last: filtertest.Start.Add(time.Minute), Expires: filtertest.Start.Add(24 * time.Hour), Attempts: 2},
		"passed": {First: filtertest.Start, Last: filtertest.Start.Add(time.Hour), Passed: filtertest.Start.Add(6 * time.Minute), Expires: filtertest.Start.Add(35 * 24 * time.Hour), Attempts: 1<<32 - 1},
	}
	goldenStanding = filters.Standing{Counts: filters.Counts{Delivered: 12.5, Refused: 1, Unknown: 0.25, Trapped: 3}, At: filtertest.Start, HalfLife: 720 * time.Hour}
)

// A folder that the first release wrote is read by every later one, to the last value.
func TestVersion1IsReadForever(t *testing.T) {
	golden := filepath.Join("testdata", "v1")
	if *writeGolden {
		config := testConfig(t)
		s := must(Open(config, filtertest.NewClock(), quiet()))(t)
		for key, m := range goldenMarks {
			if err := s.Merge(t.Context(), "greylist", []string{key}, []filters.Mark{m}); err != nil {
				t.Fatal(err)
			}
		}
		s.Add("example.org", goldenStanding)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.RemoveAll(golden), os.CopyFS(golden, os.DirFS(filepath.Join(config.Path, marksName)))); err != nil {
			t.Fatal(err)
		}
	}
	config := testConfig(t)
	if err := os.CopyFS(filepath.Join(config.Path, marksName), os.DirFS(golden)); err != nil {
		t.Fatal(err)
	}
	s := openTest(t, config, filtertest.NewClock())
	for key, want := range goldenMarks {
		if m := must(s.Peek(t.Context(), "greylist", []string{key}))(t); m[0] != want {
			t.Errorf("%s: wrote %+v, read %+v", key, want, m[0])
		}
	}
	if st := must(s.Standings(t.Context(), []string{"example.org"}))(t); st[0] != goldenStanding {
		t.Errorf("wrote %+v, read %+v", goldenStanding, st[0])
	}
	if st := s.Stats(); st.Entries != 2 || st.Standings != 1 || st.SetAside != 0 {
		t.Errorf("%+v", st)
	}
}

// What a later release adds behind a value is passed over. Values of a version that is not known are not used, and not
// swept away: the later release wants them when it is back.
func TestValuesOfALaterRelease(t *testing.T) {
	config, clock := testConfig(t), filtertest.NewClock()
	s := must(Open(config, clock, quiet()))(t)
	if err := s.Pass(t.Context(), "g", []string{"a"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	mark, standing := appendMark(nil, goldenMarks["passed"]), AppendStanding([]byte{standingVersion}, goldenStanding)
	edit(t, config, func(db *pebble.DB) error {
		return errors.Join(
			db.Set([]byte(recordKey("g", "added to")), append(mark, 9, 9, 9), pebble.Sync),
			db.Set([]byte(recordKey("g", "later")), append([]byte{markVersion + 1}, mark[1:]...), pebble.Sync),
			db.Set([]byte(standingRecord("added.to")), append(standing, 9, 9, 9), pebble.Sync),
			db.Set([]byte(standingRecord("later")), append([]byte{standingVersion + 1}, standing[1:]...), pebble.Sync))
	})
	s = must(prepare(config, clock, quiet(), vfs.Default))(t)
	m := must(s.Peek(t.Context(), "g", []string{"added to", "later"}))(t)
	if m[0] != goldenMarks["passed"] || m[1].Exists() {
		t.Errorf("%+v", m)
	}
	st := must(s.Standings(t.Context(), []string{"added.to", "later"}))(t)
	if st[0] != goldenStanding || st[1].Exists() {
		t.Errorf("%+v", st)
	}
	marks, standings := s.marksSweeper(), s.standingsSweeper()
	s.ledger.entries.Store(2)
	for range 3 {
		marks.step(time.Hour)
		standings.step(time.Hour)
	}
	s.shutDown()
	edit(t, config, func(db *pebble.DB) error {
		for _, record := range []string{recordKey("g", "later"), standingRecord("later")} {
			_, closer, err := db.Get([]byte(record))
			if err != nil {
				return fmt.Errorf("%q: %w", record, err)
			}
			closer.Close()
		}
		return nil
	})
}

// What a later release has written in a form that nothing is known of is refused, and stays as it is.
func TestAFolderOfALaterReleaseIsLeftAlone(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, c Config){
		"marks": func(t *testing.T, c Config) {
			edit(t, c, func(db *pebble.DB) error {
				return db.Set(formatKey, binary.AppendVarint(nil, storeFormat+1), pebble.Sync)
			})
		},
		"database": func(t *testing.T, c Config) {
			markers := must(filepath.Glob(filepath.Join(c.Path, marksName, "marker.format-version.*")))(t)
			if len(markers) != 1 {
				t.Fatalf("%q", markers)
			}
			later := filepath.Join(c.Path, marksName, fmt.Sprintf("marker.format-version.000900.%03d", pebble.FormatNewest+1))
			if err := os.Rename(markers[0], later); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig(t)
			filled(t, config)
			change(t, config)
			before := must(filepath.Glob(filepath.Join(config.Path, marksName, "*.sst")))(t)
			for range 2 {
				if s, err := Open(config, filtertest.NewClock(), quiet()); !errors.Is(err, ErrNewer) {
					t.Fatalf("%v, %v", s, err)
				}
			}
			after := must(filepath.Glob(filepath.Join(config.Path, marksName, "*.sst")))(t)
			aside := must(filepath.Glob(filepath.Join(config.Path, brokenName+"*")))(t)
			if len(aside) > 0 || len(after) < len(before) {
				t.Errorf("set aside: %q; tables before %q, after %q", aside, before, after)
			}
		})
	}
}

// edit changes a folder as another program would.
func edit(t *testing.T, c Config, do func(db *pebble.DB) error) {
	t.Helper()
	d := must(openDisk(vfs.Default, filepath.Join(c.Path, marksName), quiet(), func(error) {}))(t)
	if err := errors.Join(do(d.db), d.close()); err != nil {
		t.Fatal(err)
	}
}
