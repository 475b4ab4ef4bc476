package calledtest

import (
	"fmt"
	"maps"
	"slices"
	"testing"
)

// Table is the session table for one front end.
type Table struct {
	Front  string // its name
	Folder string // where the dialogues are
	Sees   Sees
	// Hold holds a dialogue with an MTA that asks the front end.
	Hold func(t *testing.T, s *Script) Outcome
}

// Run holds all dialogues, and says how many it has left out and why.
func (table Table) Run(t *testing.T) {
	scripts, err := ReadScripts(table.Folder)
	if err != nil {
		t.Fatal(err)
	}
	held, left := 0, map[string]int{}
	for _, s := range scripts {
		if s.Left != "" {
			left[s.Left]++
			t.Logf("%s is for SMTP only: %s: %s", s.Name, s.Left, s.Because)
			continue
		}
		held++
		t.Run(s.Name, func(t *testing.T) { table.Sees.Compare(t, HoldBySMTP(t, s), table.Hold(t, s)) })
	}
	fmt.Printf("sessions by %s: %d of %d dialogues held both ways\n", table.Front, held, len(scripts))
	for _, why := range slices.Sorted(maps.Keys(left)) {
		fmt.Printf("sessions by %s: %d left out: %s\n", table.Front, left[why], why)
	}
}
