package journal

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/filters/filtertest"
	"gatepost/policy"
)

// someRecords are as many small records, each a second after the one before.
func someRecords(n int) []*policy.Record {
	var records []*policy.Record
	schema, matched := mustSchema(testGroups), testRules
	for i := range n {
		r := realistic(schema, matched, i)
		r.Start = r.Start.Add(time.Duration(i) * time.Second)
		r.End = r.Start.Add(time.Second)
		records = append(records, r)
	}
	return records
}

// writeBlocks writes each record into a block of its own and returns the file.
func writeBlocks(t *testing.T, folder string, records []*policy.Record) (path string) {
	t.Helper()
	var body []byte
	var open *openSegment
	for i, r := range records {
		b := newBuilder(nil)
		b.record(r, "accept")
		body = b.appendBody(nil)
		if i == 0 {
			var err error
			if open, err = newSegment(osDisk{}, folder, 1, r.End, body); err != nil {
				t.Fatal(err)
			}
		}
		if err := open.append(b.appendHead(nil, len(body)), body, r.End); err != nil {
			t.Fatal(err)
		}
	}
	if err := open.file.Close(); err != nil {
		t.Fatal(err)
	}
	return open.path
}

// readIDs reads what can be read, and what was said of the rest.
func readIDs(t *testing.T, folder string) (ids []string, damage []Damage) {
	t.Helper()
	r, err := NewReader(folder, func(d Damage) { damage = append(damage, d) })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Each(context.Background(), Query{}, func(e *Entry) bool { ids = append(ids, e.ID); return true }); err != nil {
		t.Fatal(err)
	}
	return ids, damage
}

// Wherever a crash tears the file, all blocks before it are read, the end is cut off when the journal is opened again, and
// what is written then is read as well.
func TestTornAnywhere(t *testing.T) {
	records := someRecords(4)
	whole := writeBlocks(t, t.TempDir(), records[:3])
	text, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	var ends []int // of the frames
	s := &scanner{file: bytes.NewReader(text), size: int64(len(text))}
	for {
		if _, _, _, err := s.next(); err != nil {
			break
		}
		ends = append(ends, int(s.at))
	}
	if len(ends) != 4 {
		t.Fatalf("frames end at %v", ends)
	}
	for length := range len(text) {
		folder := t.TempDir()
		path := filepath.Join(folder, filepath.Base(whole))
		if err := os.WriteFile(path, text[:length], 0o640); err != nil {
			t.Fatal(err)
		}
		frames := 0
		for _, end := range ends {
			if end <= length {
				frames++
			}
		}
		blocks := max(0, frames-1)
		if ids, damage := readIDs(t, folder); len(ids) != blocks || len(damage) > 0 {
			t.Fatalf("torn at %d: read %q, damage %v", length, ids, damage)
		}
		isEnd := slices.Contains(ends, length)
		if near := slices.Contains(ends, length-1) || slices.Contains(ends, length+1); !isEnd && !near && length%9 != 0 {
			continue // opening takes milliseconds
		}
		said := &bytes.Buffer{}
		j, err := Open(testConfig(folder), Options{Log: slog.New(slog.NewTextHandler(said, nil))})
		if err != nil {
			t.Fatal(err)
		}
		j.Record(records[3])
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		ids, damage := readIDs(t, folder)
		if len(ids) != blocks+1 || ids[blocks] != records[3].ID || len(damage) > 0 {
			t.Fatalf("torn at %d, then written to: read %q, damage %v", length, ids, damage)
		}
		if told := strings.Contains(said.String(), "cut off") || strings.Contains(said.String(), "set aside"); told == isEnd {
			t.Fatalf("torn at %d, where a frame ends: %t; the log says: %s", length, isEnd, said)
		}
	}
}

// A byte that changed on disk costs its block and no other, and is told.
func TestDamagedAnywhere(t *testing.T) {
	records := someRecords(3)
	folder := t.TempDir()
	path := writeBlocks(t, folder, records)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &scanner{file: bytes.NewReader(text), size: int64(len(text))}
	if _, _, _, err := s.next(); err != nil {
		t.Fatal(err)
	}
	head := int(s.at)
	for i := head; i < len(text); i += 3 {
		broken := slices.Clone(text)
		broken[i] ^= 0x55
		if err := os.WriteFile(path, broken, 0o640); err != nil {
			t.Fatal(err)
		}
		ids, damage := readIDs(t, folder)
		if len(ids) != 2 || len(damage) == 0 && ids[1] != records[1].ID { // the last block may look torn
			t.Fatalf("byte %d of %d: read %q, damage %v", i, len(text), ids, damage)
		}
	}
}

func TestAFileWithoutItsHead(t *testing.T) {
	folder := t.TempDir()
	path := writeBlocks(t, folder, someRecords(2))
	text, _ := os.ReadFile(path)
	text[30] ^= 1
	if err := os.WriteFile(path, text, 0o640); err != nil {
		t.Fatal(err)
	}
	if ids, damage := readIDs(t, folder); len(ids) != 0 || len(damage) == 0 {
		t.Errorf("read %q, damage %v", ids, damage)
	}
	j, err := Open(testConfig(folder), Options{Clock: filtertest.NewClock()})
	if err != nil {
		t.Fatal(err)
	}
	j.Close()
	if _, err := os.Stat(path + ".corrupt-" + filtertest.Start.UTC().Format("20060102T150405Z")); err != nil {
		t.Errorf("it is not set aside under a name with the date: %v", err)
	}
	if n := j.metrics.Mended.Load(); n != 1 {
		t.Errorf("%d are counted", n)
	}
}

// Whatever is done to the files of a journal, it opens and goes on; a file is gone from its place only with a word in the
// log.
func TestAnythingMayHappenToTheFiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 60 {
		folder, log := t.TempDir(), &safeBuffer{}
		path := writeBlocks(t, folder, someRecords(3))
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		switch round % 5 {
		case 0:
			text = text[:rng.IntN(len(text))]
		case 1:
			for range 1 + rng.IntN(9) {
				text[rng.IntN(len(text))] ^= byte(1 + rng.IntN(255))
			}
		case 2:
			for i := range text {
				text[i] = byte(rng.Uint32())
			}
		case 3:
			text = append(text, text[:rng.IntN(len(text))]...)
		case 4: // nobody can read a folder as a file, not even root
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
				t.Fatal(err)
			}
		}
		if round%5 != 4 {
			if err := os.WriteFile(path, text, 0o640); err != nil {
				t.Fatal(err)
			}
		}
		c := testConfig(folder)
		j, err := Open(c, Options{Log: slog.New(slog.NewTextHandler(log, nil))})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		added := someRecords(1)[0]
		added.ID = "38G29KFPR999V.1"
		j.Record(added)
		if err := j.Close(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		ids, damage := readIDs(t, folder)
		if len(ids) == 0 || ids[len(ids)-1] != added.ID {
			t.Errorf("round %d: read %q", round, ids)
		}
		if len(ids) < 4 && len(damage) == 0 && log.String() == "" && round%5 != 4 {
			t.Errorf("round %d: %d of 4 entries are left, and nobody is told", round, len(ids))
		}
	}
}

// A file of a later version is told as such, and the others are read.
func TestALaterVersion(t *testing.T) {
	folder := t.TempDir()
	later := appendFrame(nil, fileFrame, []byte{formatVersion + 1}, []byte("what may it be"))
	if err := os.WriteFile(filepath.Join(folder, segmentName(2, time.Now())), later, 0o640); err != nil {
		t.Fatal(err)
	}
	writeBlocks(t, folder, someRecords(1))
	ids, damage := readIDs(t, folder)
	if len(ids) != 1 || len(damage) != 1 || damage[0].Problem != errVersion {
		t.Errorf("read %q, damage %v", ids, damage)
	}
	// As the latest file it would be mended if it were ours: half a frame at its end.
	path := filepath.Join(folder, segmentName(2, time.Now()))
	later = append(later, later[:5]...)
	if err := os.WriteFile(path, later, 0o640); err != nil {
		t.Fatal(err)
	}
	j, err := Open(testConfig(folder), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || !bytes.Equal(text, later) {
		t.Errorf("it was changed: %d bytes of %d; %v", len(text), len(later), err)
	}
}
