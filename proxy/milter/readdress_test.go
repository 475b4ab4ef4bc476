package milter

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
)

// TestReaddress: the MTA is told what filters want of the envelope, as far as it lets milters do that.
func TestReaddress(t *testing.T) {
	h := start(t, setup{})
	edits := []filters.EnvelopeEdit{
		{Kind: filters.AddRecipient, Address: "a@example.org"},
		{Kind: filters.AddRecipient, Address: "b@example.org", Params: []filters.Param{{Key: "NOTIFY", Value: "NEVER", HasValue: true}, {Key: "X"}}},
		{Kind: filters.DeleteRecipient, Address: "c@example.org"},
		{Kind: filters.ChangeSender},
	}
	for offered, want := range map[milter.OptAction][]string{
		0x1ff: {"+ <a@example.org>", "2 <b@example.org>|NOTIFY=NEVER X", "- <c@example.org>", "e <>"},
		0x3f:  {"+ <a@example.org>", "+ <b@example.org>", "- <c@example.org>"},
		0x1:   nil,
	} {
		s := &session{server: h.server, conn: nil, agreed: wire.Negotiation{Actions: offered & wantedActions}, tx: &transaction{envelope: &filters.Envelope{ID: "t1"}}}
		var got []string
		s.readdress(edits)
		for r := wire.NewReader(bytes.NewReader(s.out)); ; {
			code, _, err := r.Next()
			if err != nil {
				break
			}
			data, _ := r.Data()
			got = append(got, string(rune(code))+" "+strings.ReplaceAll(strings.TrimSuffix(string(data), "\x00"), "\x00", "|"))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%#x: %q", uint32(offered), got)
		}
	}
}
