package dkim

import (
	"slices"
	"strings"
	"testing"
	"time"

	library "github.com/emersion/go-msgauth/dkim"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// benchMessage is a message of that many lines with an RSA-2048 signature; 85 make 4 KiB.
func benchMessage(b *testing.B, canonicalization string, lines int) string {
	header := fromField + "To: <suzie@example.net>\r\nSubject: dinner\r\nDate: Mon, 5 Jan 2026 12:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n"
	body := strings.Repeat("Hi. We lost the game. Are you hungry yet? Joe.\r\n", lines)
	return librarySigned(b, header+"\r\n"+body, "rsa", canonicalization, canonicalization, []string{"From", "To", "Subject", "Date", "Message-ID"})
}

func BenchmarkRSA2048(b *testing.B) {
	key := []string{rsaText(&rsaKey().PublicKey)}
	for _, size := range []struct {
		name, canonicalization string
		lines                  int
	}{{"4KiB-relaxed", "relaxed", 85}, {"4KiB-simple", "simple", 85}, {"1MiB-relaxed", "relaxed", 1 << 20 / 49}, {"1MiB-simple", "simple", 1 << 20 / 49}} {
		text := benchMessage(b, size.canonicalization, size.lines)
		env := filtertest.NewEnv(libraryZone())
		env.Clock = filters.SystemClock{}
		f, _ := New(Config{}, env)
		m := newMessage(text)         // its header is parsed once, for all filters
		attempt := &filters.Attempt{} // as the policy tries it first
		ours := func(b *testing.B) {
			facts, err := f.Message(attempt, filters.View{Message: m})
			if err != nil || facts.Result != "pass" {
				b.Fatal(facts, err)
			}
		}
		options := &library.VerifyOptions{LookupTXT: func(string) ([]string, error) { return key, nil }}
		theirs := func(b *testing.B) {
			v, err := library.VerifyWithOptions(strings.NewReader(text), options)
			if err != nil || v[0].Err != nil {
				b.Fatal(err)
			}
		}
		b.Run(size.name+"-ours", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ours(b)
			}
		})
		b.Run(size.name+"-library", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				theirs(b)
			}
		})
		// Both in turns, so that other work on the machine meets both: the median of the pairs.
		b.Run(size.name+"-ratio", func(b *testing.B) {
			var ratios []float64
			for b.Loop() {
				start := time.Now()
				ours(b)
				middle := time.Now()
				theirs(b)
				ratios = append(ratios, float64(middle.Sub(start))/float64(time.Since(middle)))
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "ours/library")
		})
	}
}

func BenchmarkUnsigned(b *testing.B) {
	f, _ := New(Config{}, filtertest.NewEnv(filtertest.NewZone()))
	m := newMessage(fromField + "\r\n" + plainBody)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Message(b.Context(), filters.View{Message: m}); err != nil {
			b.Fatal(err)
		}
	}
}

// poolsForget is set under the race detector, which makes sync.Pool forget at random.
var poolsForget bool

func TestAllocations(t *testing.T) {
	if poolsForget {
		return
	}
	for name, test := range map[string]struct {
		text string
		most float64
	}{"unsigned": {fromField + "\r\n" + plainBody, 1}, "signed": {signed(plainTags), 24}} {
		f, err := New(Config{}, filtertest.NewEnv(plainZone()))
		if err != nil {
			t.Fatal(err)
		}
		m := newMessage(test.text)
		attempt := &filters.Attempt{}
		got := testing.AllocsPerRun(100, func() {
			if _, err := f.Message(attempt, filters.View{Message: m}); err != nil {
				t.Fatal(err)
			}
		})
		if got > test.most {
			t.Errorf("%s: %v allocations, want at most %v", name, got, test.most)
		}
	}
}
