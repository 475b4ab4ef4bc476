package main

import (
	"strings"
	"testing"

	"gatepost/policy"
	"gatepost/proxy/journal"
)

// A session in which all went well is not listed as given up.
func TestASessionIsListedAsEnded(t *testing.T) {
	for kind, want := range map[string]string{policy.SessionRecord: " ended ", policy.TransactionRecord: " abandon "} {
		if line := entryLine(&journal.Entry{ID: "X", Kind: kind, Verdict: "abandon"}); !strings.Contains(line, want) {
			t.Errorf("%s: %q", kind, line)
		}
	}
}
