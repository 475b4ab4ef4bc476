package dkim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// slow answers after a while, if ctx lets it.
type slow struct {
	filters.Resolver
	pause time.Duration
}

func (s slow) LookupTXT(ctx context.Context, name string) ([]string, error) {
	select {
	case <-time.After(s.pause):
		return s.Resolver.LookupTXT(ctx, name)
	case <-ctx.Done():
		return nil, fmt.Errorf("TXT %s: %w", name, ctx.Err())
	}
}

func severalSigners() (header string, zone *filtertest.Zone) {
	zone = filtertest.NewZone()
	for i := range 5 {
		header += signSimple(edKey, strings.Replace(plainTags, "s=sel", fmt.Sprint("s=s", i), 1), fromField, plainBody)
		zone.Add(fmt.Sprintf("s%d._domainkey.example.org", i), "TXT", edText)
	}
	return header + fromField + "\r\n", zone
}

func TestLookupsRunSideBySideWhileTheBodyArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		header, zone := severalSigners()
		f, _ := New(Config{}, filtertest.NewEnv(slow{zone, 3 * time.Second}))
		m := filters.NewMessage(1<<20, nil)
		start := time.Now()
		go func() {
			m.Write([]byte(header))
			time.Sleep(3 * time.Second)
			m.Write([]byte(plainBody))
			m.Complete()
		}()
		facts, err := f.Message(t.Context(), filters.View{Message: m})
		if err != nil || facts.Result != "pass" || len(facts.Results) != 5 {
			t.Errorf("%+v, %v", facts, err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestOneDeadlineForAllKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		header, zone := severalSigners()
		f, _ := New(Config{}, filtertest.NewEnv(slow{zone, time.Hour}))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		facts, err := f.Message(ctx, filters.View{Message: newMessage(header + plainBody)})
		if err != nil || facts.Result != "temperror" || !slices.Equal(facts.Undecided, []string{"example.org"}) {
			t.Errorf("%+v, %v", facts, err)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// A client that leaves in the middle of the data must leave nothing behind: TestMain counts goroutines.
func TestAbortedMessage(t *testing.T) {
	header, zone := severalSigners()
	gone := errors.New("the client has left")
	f, _ := New(Config{}, filtertest.NewEnv(slow{zone, time.Hour}))
	for range 20 {
		m := filters.NewMessage(1<<20, nil)
		m.Write([]byte(header))
		done := make(chan error)
		go func() {
			_, err := f.Message(context.Background(), filters.View{Message: m})
			done <- err
		}()
		m.Write([]byte("the body"))
		m.Abort(gone)
		if err := <-done; !errors.Is(err, gone) {
			t.Fatalf("err = %v", err)
		}
		m.Release()
	}
}
