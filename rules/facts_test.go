package rules

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// AppendText says what All says, and allocates nothing.
func TestAppendText(t *testing.T) {
	s := testSchema(t)
	yes, count, words, relay := true, 3, []string{"red", "green"}, netip.MustParseAddr("2001:db8::1")
	f := setFacts(t, s.NewFacts(),
		&dnsblConnect{Score: 2.5, Listed: []string{"a", "b"}}, &heloObserved{Valid: true}, &mailFacts{}, &spfMail{Result: "pass"},
		&oddFacts{Flag: &yes, Count: &count, Words: &words, Relay: &relay, Ratio: 1e9})
	var want []string
	f.All(func(name string, value any) {
		if strings.HasPrefix(name, "mail.") { // is given
			return
		}
		if list, ok := value.([]string); ok {
			value = strings.Join(list, ",")
		}
		want = append(want, fmt.Sprintf("%s=%v", name, value))
	})
	if len(want) < 5 {
		t.Fatalf("only %d facts", len(want))
	}
	if got := string(f.AppendText(nil)); got != strings.Join(want, " ") {
		t.Errorf("got  %s\nwant %s", got, strings.Join(want, " "))
	}
	room := make([]byte, 0, 4<<10)
	if n := testing.AllocsPerRun(100, func() { f.AppendText(room) }); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}

func TestNumbersAreWrittenInTheirShortestForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.Float64(), rapid.Map(rapid.IntRange(-2e6, 2e6), func(n int) float64 { return float64(n) }),
			rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 999_999, 1e6, -999_999, -1e6, 0.5, math.Inf(1), math.NaN()})).Draw(t, "n")
		if got, want := string(appendShortest(nil, n)), strconv.FormatFloat(n, 'g', -1, 64); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}

func BenchmarkAppendText(b *testing.B) {
	f := sampleFacts(b, testSchema(b))
	room := make([]byte, 0, 4<<10)
	b.ReportAllocs()
	for b.Loop() {
		f.AppendText(room)
	}
}
