package dkim

import (
	"context"
	"strings"
	"testing"

	library "github.com/emersion/go-msgauth/dkim"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// benchMessage is a message of 4 KiB with an RSA-2048 signature.
func benchMessage(b *testing.B, canonicalization string) string {
	header := fromField + "To: <suzie@example.net>\r\nSubject: dinner\r\nDate: Mon, 5 Jan 2026 12:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n"
	body := strings.Repeat("Hi. We lost the game. Are you hungry yet? Joe.\r\n", 85)
	return librarySigned(b, header+"\r\n"+body, "rsa", canonicalization, canonicalization, []string{"From", "To", "Subject", "Date", "Message-ID"})
}

func BenchmarkRSA2048(b *testing.B) {
	key := []string{rsaText(&rsaKey().PublicKey)}
	for _, canonicalization := range []string{"relaxed", "simple"} {
		text := benchMessage(b, canonicalization)
		b.Run(canonicalization+"/ours", func(b *testing.B) {
			env := filtertest.NewEnv(libraryZone())
			env.Clock = filters.SystemClock{}
			f, _ := New(Config{}, env)
			b.ReportAllocs()
			for b.Loop() {
				m := newMessage(text)
				facts, err := f.Message(b.Context(), filters.View{Message: m})
				if err != nil || facts.Result != "pass" {
					b.Fatal(facts, err)
				}
				m.Release()
			}
		})
		b.Run(canonicalization+"/library", func(b *testing.B) {
			options := &library.VerifyOptions{LookupTXT: func(string) ([]string, error) { return key, nil }}
			b.ReportAllocs()
			for b.Loop() {
				v, err := library.VerifyWithOptions(strings.NewReader(text), options)
				if err != nil || v[0].Err != nil {
					b.Fatal(err)
				}
			}
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

func TestAllocations(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		most float64
	}{"unsigned": {fromField + "\r\n" + plainBody, 1}, "signed": {signed(plainTags), 70}} {
		f, err := New(Config{}, filtertest.NewEnv(plainZone()))
		if err != nil {
			t.Fatal(err)
		}
		m := newMessage(test.text)
		got := testing.AllocsPerRun(100, func() {
			if _, err := f.Message(context.Background(), filters.View{Message: m}); err != nil {
				t.Fatal(err)
			}
		})
		if got > test.most {
			t.Errorf("%s: %v allocations, want at most %v", name, got, test.most)
		}
	}
}
