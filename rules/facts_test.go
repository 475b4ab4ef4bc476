package rules

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// AppendText says what All says, and allocates nothing.
func TestAppendText(t *testing.T) {
	s := testSchema(t)
	yes, count, words, relay := true, 3, []string{"red", "green"}, netip.MustParseAddr("2001:db8::1")
	f := setFacts(t, s.NewFacts(),
		&dnsblConnect{Score: 2.5, Listed: []string{"a", "b"}}, &heloObserved{Valid: true}, &mailFacts{}, &spfMail{Result: "pass"},
		&oddFacts{Flag: &yes, Count: &count, Words: &words, Relay: &relay, Ratio: 1e9})
	skip := func(name string) bool { return strings.HasPrefix(name, "mail.") }
	var want []string
	f.All(func(name string, value any) {
		if skip(name) {
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
	if got := string(f.AppendText(nil, skip)); got != strings.Join(want, " ") {
		t.Errorf("got  %s\nwant %s", got, strings.Join(want, " "))
	}
	room := make([]byte, 0, 4<<10)
	if n := testing.AllocsPerRun(100, func() { f.AppendText(room, skip) }); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}
