package store

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

const childEnv = "GATEPOST_STORE_TEST_CHILD"

// writeUntilKilled is the child's whole life: it tells each mark that was decided, with the time.
func writeUntilKilled(folder string) {
	c := Defaults()
	c.Path = folder
	s, err := Open(c, filters.SystemClock{}, quiet())
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		if err := s.Pass(context.Background(), "g", []string{strconv.Itoa(i)}, time.Hour); err != nil {
			os.Exit(1)
		}
		fmt.Println(i, time.Now().UnixMilli())
		time.Sleep(50 * time.Microsecond)
	}
}

func TestKill9ForgetsAtMostTheLastSecond(t *testing.T) {
	config := testConfig(t)
	for round := range 2 {
		child := exec.Command(os.Args[0], "-test.run=^$")
		child.Env = append(os.Environ(), childEnv+"="+config.Path)
		out := must(child.StdoutPipe())(t)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		type told struct{ key, at int64 }
		var all []told
		var killed int64
		lines := bufio.NewScanner(out)
		var end int64
		for lines.Scan() {
			key, at, ok := strings.Cut(lines.Text(), " ")
			k, err1 := strconv.ParseInt(key, 10, 64)
			ms, err2 := strconv.ParseInt(at, 10, 64)
			if !ok || err1 != nil || err2 != nil {
				break // the last line may be half a line
			}
			all = append(all, told{k, ms})
			if end == 0 {
				end = ms + 1500 + rand.Int64N(700)
			}
			if ms >= end && killed == 0 {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				killed = time.Now().UnixMilli()
			}
		}
		_ = child.Wait()
		if killed == 0 {
			t.Fatalf("the child ended by itself: %q", lines.Text())
		}
		s := must(Open(config, filters.SystemClock{}, quiet()))(t)
		survived := 0
		for _, m := range all {
			mark := must(s.Peek(t.Context(), "g", []string{strconv.FormatInt(m.key, 10)}))(t)[0]
			if mark.Exists() && mark.Last.UnixMilli() >= m.at-1000 {
				survived++
			} else if m.at < killed-1000 {
				t.Errorf("round %d: mark %d is forgotten %d ms before the kill", round, m.key, killed-m.at)
			}
		}
		t.Logf("round %d: %d of %d marks survived", round, survived, len(all))
		if survived == 0 || survived == len(all) && len(all) < 100 {
			t.Errorf("%d of %d survived: the test shows nothing", survived, len(all))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// filled makes a folder with some tables, a log and marks.
func filled(t *testing.T, config Config) {
	t.Helper()
	s := must(Open(config, filtertest.NewClock(), quiet()))(t)
	for i := range 3000 {
		must(s.Attempt(t.Context(), "g", []string{fmt.Sprintf("key%05d", i)}, terms))(t)
		if i == 2000 {
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := s.disk.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestGarbledFilesNeverStopTheStore(t *testing.T) {
	master := testConfig(t)
	filled(t, master)
	rng := rand.New(rand.NewPCG(1, 2))
	aside := 0
	for round := range 40 {
		config := testConfig(t)
		if err := os.CopyFS(config.Path, os.DirFS(master.Path)); err != nil {
			t.Fatal(err)
		}
		files := must(filepath.Glob(filepath.Join(config.Path, marksName, "*")))(t)
		file := files[round%len(files)]
		what := garble(t, rng, file)
		clock, log := filtertest.NewClock(), &syncBuffer{}
		s, err := Open(config, clock, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelError})))
		if err != nil {
			t.Errorf("%s garbled: %v", filepath.Base(file), err)
			continue
		}
		for i := 0; i < 3000; i += 100 {
			must(s.Peek(t.Context(), "g", []string{fmt.Sprintf("key%05d", i)}))(t)
		}
		found := 0
		if err := s.Range(t.Context(), "g", "", func(string, filters.Mark) bool { found++; return true }); err != nil {
			t.Error(err)
		}
		// A log that is torn or missing may look as a crash leaves it; what is in tables is there then.
		torn := strings.HasSuffix(file, ".log") && found > 2000
		waitFor(t, fmt.Sprintf("the loss is told: %d of 3000 are left, %s was %s", found, filepath.Base(file), what), func() bool { return found == 3000 || torn || log.String() != "" })
		// Whatever was found, new marks are kept from now on.
		must(s.Attempt(t.Context(), "g", []string{"after"}, terms))(t)
		waitFor(t, "the broken folder is replaced", func() bool {
			s.mu.RLock()
			defer s.mu.RUnlock()
			return s.disk != nil && !s.disk.broken.Load()
		})
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		s = must(Open(config, clock, quiet()))(t)
		if m := must(s.Peek(t.Context(), "g", []string{"after"}))(t); !m[0].Exists() {
			t.Errorf("%s garbled: a mark made afterwards is lost", filepath.Base(file))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		aside += len(must(filepath.Glob(filepath.Join(config.Path, brokenName+"*")))(t))
	}
	t.Logf("%d of 40 folders were set aside", aside)
	if aside == 0 {
		t.Error("no garbled folder was set aside")
	}
}

// garble breaks a file and says how.
func garble(t *testing.T, rng *rand.Rand, file string) (what string) {
	t.Helper()
	data := must(os.ReadFile(file))(t)
	switch rng.IntN(4) {
	case 0:
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		return "removed"
	case 1:
		data = data[:rng.IntN(len(data)+1)]
	case 2:
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
	default:
		for range 1 + len(data)/200 {
			if len(data) > 0 {
				data[rng.IntN(len(data))] ^= byte(1 + rng.IntN(255))
			}
		}
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return "written over"
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestOnlyTheLatestBrokenFoldersAreKept(t *testing.T) {
	config, clock := testConfig(t), filtertest.NewClock()
	for range keepBroken + 3 {
		filled(t, config)
		manifests := must(filepath.Glob(filepath.Join(config.Path, marksName, "MANIFEST-*")))(t)
		for _, manifest := range manifests {
			if err := os.Truncate(manifest, 3); err != nil {
				t.Fatal(err)
			}
		}
		clock.Advance(time.Second)
		if err := must(Open(config, clock, quiet()))(t).Close(); err != nil {
			t.Fatal(err)
		}
	}
	names := must(filepath.Glob(filepath.Join(config.Path, brokenName+"*")))(t)
	if len(names) != keepBroken || !strings.HasSuffix(names[0], "Z") {
		t.Errorf("kept %q", names)
	}
}
