package simtest

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"
	"text/tabwriter"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/proxy/store/redistest"
)

var terms = filters.Terms{Delay: 5 * time.Minute, Window: 24 * time.Hour, Keep: 35 * 24 * time.Hour}

// TestAfterAPartition cuts half of the proxies off. Senders are told to come back at both sides of the cut, and do so there.
// When the way is free again, each passes at every proxy.
func TestAfterAPartition(t *testing.T) {
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "proxies\tcut off\tsenders\tdiffer when the way is free\tuntil none differs\t")
	sites := []int{1, 2, 4, 8}
	if !isLong() {
		sites = []int{2}
	}
	for _, n := range sites {
		senders := size(t, "PARTED", 500, 2000)
		cut, differ, took := parted(t, n, senders)
		fmt.Fprintf(table, "%d\t%d\t%d\t%d\t%s\t\n", n, cut, senders, differ, took.Round(10*time.Millisecond))
	}
	_ = table.Flush()
	say(t, out.String())
}

func parted(t *testing.T, proxies, senders int) (cut, differ int, took time.Duration) {
	t.Helper()
	server := redistest.Start(t, redistest.Options{})
	defer server.Kill()
	way := redistest.Forward(t, server.Address)
	clock := filtertest.NewClockAt(time.Now())
	var members []*member
	cut = (proxies + 1) / 2
	for i := range proxies {
		if i < cut {
			members = append(members, joinAt(t, []string{way.Address}, clock))
		} else {
			members = append(members, joinAt(t, []string{server.Address}, clock))
		}
	}
	way.Stall()
	way.Cut()
	for range 2 { // a first attempt, and the one that passes
		for i := range senders {
			if _, err := members[i%proxies].Attempt(t.Context(), "greylist", []string{sender(i)}, terms); err != nil {
				t.Fatal(err)
			}
		}
		clock.Advance(6 * time.Minute)
	}
	for i, m := range members[:cut] {
		if m.Stats().Since.IsZero() {
			t.Fatalf("proxy %d has not noticed that it is cut off", i+1)
		}
	}
	differ = differing(t, members, senders)
	way.Heal()
	begun := time.Now()
	redistest.Eventually(t, 60*time.Second, func() error {
		for i, m := range members {
			if st := m.Stats(); !st.Since.IsZero() {
				return fmt.Errorf("proxy %d is alone yet: %v", i+1, st.Cause)
			}
		}
		if n := differing(t, members, senders); n > 0 {
			return fmt.Errorf("%d senders do not pass everywhere", n)
		}
		return nil
	})
	return cut, differ, time.Since(begun)
}

func sender(i int) string {
	return "n:192.168." + strconv.Itoa(i>>8) + "." + strconv.Itoa(i&255) + "/32|alice@example" + strconv.Itoa(i) + ".test"
}

// differing counts the senders that do not pass at every proxy.
func differing(t *testing.T, members []*member, senders int) (n int) {
	t.Helper()
	passes := make([]int, senders)
	for _, m := range members {
		for start := 0; start < senders; start += 100 {
			var keys []string
			for i := start; i < min(start+100, senders); i++ {
				keys = append(keys, sender(i))
			}
			marks, err := m.Peek(t.Context(), "greylist", keys)
			if err != nil {
				t.Fatal(err)
			}
			for i, mark := range marks {
				if !mark.Passed.IsZero() {
					passes[start+i]++
				}
			}
		}
	}
	for _, at := range passes {
		if at < len(members) {
			n++
		}
	}
	return n
}
