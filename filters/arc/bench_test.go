package arc

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// sealedTimes is a message with a body of that size and sets by as many domains.
func sealedTimes(zone *filtertest.Zone, sets, body int) string {
	header, _, _ := strings.Cut(letter, "\r\n\r\n")
	text := header + "\r\n\r\n" + strings.Repeat("It is a line of some seventy characters, as they are found in most mail.\r\n", body/74)
	for i := range sets {
		text = newSigner(zone, fmt.Sprintf("s%d.example", i)).seal(text)
	}
	return text
}

func BenchmarkMessage(b *testing.B) {
	for _, bench := range []struct {
		name       string
		sets, body int
	}{{"none", 0, 4 << 10}, {"1 set", 1, 4 << 10}, {"5 sets", 5, 4 << 10}, {"50 sets", 50, 4 << 10}, {"1 set 1 MiB", 1, 1 << 20}} {
		b.Run(bench.name, func(b *testing.B) {
			zone := filtertest.NewZone()
			text := sealedTimes(zone, bench.sets, bench.body)
			f, _ := New(Config{TrustedSealers: []string{"s0.example"}}, filtertest.NewEnv(zone))
			v := filtertest.Mailed("192.0.2.1", "mx.example.net", "alice@example.com")
			v.Message = newMessage(text)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				facts, err := f.Message(context.Background(), v)
				if err != nil || facts.Result == string(Fail) {
					b.Fatal(facts, err)
				}
			}
		})
	}
}

// BenchmarkHostile is about the most that one message can cost: 50 seals of 4096 bits, 200 names for over 1000 fields in
// 64 KiB, and a body of 1 MiB whose white space is all for nothing.
func BenchmarkHostile(b *testing.B) {
	zone := filtertest.NewZone()
	text := strings.Repeat("G: h\r\n", 800) + "From: a\r\n\r\n" + strings.Repeat(" \r\n", 1<<20/3) + "x"
	s := newSigner(zone, "s.example")
	s.key, s.names, s.results = newRSAKey(4096), "from", "none"
	for i := range maxSets {
		s.selector = fmt.Sprintf("s%d", i)
		s.publish(zone)
		if s.sealsOnly = i < maxSets-1; !s.sealsOnly {
			for n := range maxSigned - 1 {
				s.names += fmt.Sprintf(":%c", '0'+n%10)
			}
		}
		text = s.seal(text)
	}
	m := newMessage(text)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if c, err := validate(context.Background(), zone, filtertest.Start, m); err != nil || c.result != Pass {
			b.Fatal(c.reason, err)
		}
	}
}

func TestAMessageWithoutAChainCostsNothing(t *testing.T) {
	f, _ := New(Config{}, filtertest.NewEnv(filtertest.NewZone()))
	v := filters.View{Message: newMessage(letter)}
	if n := testing.AllocsPerRun(100, func() { f.Message(context.Background(), v) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
