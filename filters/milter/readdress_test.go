package milter

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
)

// envelopeFrames are the wishes of a milter that moves mail.
var envelopeFrames = slices.Concat(
	text(milter.ActAddRcpt, "<eve@example.org>"),
	text(milter.ActAddRcpt, "amy@example.org"),
	text(milter.ModifyActCode(wire.ActAddRcptPar), "<tom@example.org>", "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x"),
	text(milter.ActDelRcpt, "<joe@example.org>"),
	text(milter.ActChangeFrom, "<bounce@example.net>", "RET=HDRS"),
	text(milter.ActChangeFrom, "<>"),
	cont)

func TestEnvelopeEdits(t *testing.T) {
	all := func(set *setting) { set.config.Edits = []string{"recipients", "sender"} }
	s := &script{answer: map[byte][]byte{'E': envelopeFrames}}
	facts := observe(t, newFilter(t, s, all), viewOf(sample))
	texts := []string{"add recipient <eve@example.org>", "add recipient <amy@example.org>", "add recipient <tom@example.org>",
		"delete recipient <joe@example.org>", "sender <bounce@example.net>", "sender <>"}
	if !slices.Equal(facts.Edits, texts) || len(facts.RefusedEdits) > 0 {
		t.Errorf("%q, refused %q", facts.Edits, facts.RefusedEdits)
	}
	want := []filters.EnvelopeEdit{
		{Kind: filters.AddRecipient, Address: "eve@example.org"}, {Kind: filters.AddRecipient, Address: "amy@example.org"},
		{Kind: filters.AddRecipient, Address: "tom@example.org", Params: []filters.Param{{Key: "NOTIFY", Value: "SUCCESS,DELAY", HasValue: true}, {Key: "ORCPT", Value: "rfc822;x", HasValue: true}}},
		{Kind: filters.DeleteRecipient, Address: "joe@example.org"}, {Kind: filters.ChangeSender, Address: "bounce@example.net"}, {Kind: filters.ChangeSender},
	}
	if got := facts.Changes().Envelope; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	for name, test := range map[string]struct {
		change        func(*Config)
		edits, denied int
	}{
		"recipients alone": {func(c *Config) { c.Edits = []string{"recipients"} }, 4, 2},
		"the sender alone": {func(c *Config) { c.Edits = []string{"sender"} }, 2, 4},
		"by default":       {func(*Config) {}, 0, 6},
		"observed":         {func(c *Config) { c.Edits, c.Mode = []string{"recipients", "sender"}, "observe" }, 6, 0},
	} {
		s := &script{answer: map[byte][]byte{'E': envelopeFrames}}
		f := newFilter(t, s, func(set *setting) { test.change(&set.config) })
		facts := observe(t, f, viewOf(sample))
		if len(facts.Edits) != test.edits || len(facts.RefusedEdits) != test.denied {
			t.Errorf("%s: %q, refused %q", name, facts.Edits, facts.RefusedEdits)
		}
		if name == "observed" && (!facts.Changes().Empty() || f.MayEdit() || f.config.AddsRecipients()) {
			t.Errorf("observed: %+v", facts.Changes())
		}
	}
}

// TestObservedMiltersChangeNothing: fields and bodies neither, and the next milter does not see them.
func TestObservedMiltersChangeNothing(t *testing.T) {
	frames := slices.Concat(text(milter.ActAddHeader, "X-Added", "1"), wire.Append(nil, byte(milter.ActReplBody), "new"), cont)
	s := &script{answer: map[byte][]byte{'E': frames}}
	facts := observe(t, newFilter(t, s, func(set *setting) { set.config.Edits, set.config.Mode = []string{"headers", "body"}, "observe" }), viewOf(sample))
	if !facts.Changes().Empty() || !slices.Equal(facts.Edits, []string{"add X-Added: 1", "body 5 bytes"}) {
		t.Errorf("%+v, %q", facts.Changes(), facts.Edits)
	}
}

// TestAddressesThatCannotBe: nothing of a milter's becomes a part of a command but an address.
func TestAddressesThatCannotBe(t *testing.T) {
	for _, address := range []string{"", "<>", "<a@example.org", "a@example.org> NOTIFY=NEVER", "<a@example.org>\r\nRSET", "<a b@example.org>", "<a\\\"@example.org>",
		"<<a@example.org>>", "<b\xfccher@example.org>", "<bücher@example.org>", "<" + strings.Repeat("a", 600) + "@example.org>"} {
		s := &script{answer: map[byte][]byte{'E': append(text(milter.ActAddRcpt, address), cont...)}}
		v := viewOf(sample)
		v.Envelope.UTF8 = strings.Contains(address, "\xfc")
		facts := observe(t, newFilter(t, s, func(set *setting) { set.config.Edits = []string{"recipients"} }), v)
		if !facts.Changes().Empty() || len(facts.RefusedEdits) != 1 {
			t.Errorf("%q: %+v", address, facts)
		}
	}
	for _, param := range []string{"=x", "-A=x", "A=é", "A=b=c"} {
		s := &script{answer: map[byte][]byte{'E': append(text(milter.ModifyActCode(wire.ActAddRcptPar), "<a@example.org>", param), cont...)}}
		facts := observe(t, newFilter(t, s, func(set *setting) { set.config.Edits = []string{"recipients"} }), viewOf(sample))
		if !facts.Changes().Empty() {
			t.Errorf("%q: %+v", param, facts.Changes())
		}
	}
	s := &script{answer: map[byte][]byte{'E': append(text(milter.ActAddRcpt, "<bücher@example.org>"), cont...)}}
	v := viewOf(sample)
	v.Envelope.UTF8 = true
	if facts := observe(t, newFilter(t, s, func(set *setting) { set.config.Edits = []string{"recipients"} }), v); facts.Changes().Empty() {
		t.Errorf("with SMTPUTF8: %+v", facts)
	}
}

func TestTooManyRecipients(t *testing.T) {
	s := &script{answer: map[byte][]byte{'E': slices.Repeat(text(milter.ActAddRcpt, "<a@example.org>"), maxEnvelope+1)}}
	_, err := newFilter(t, s, func(set *setting) { set.config.Edits = []string{"recipients"} }).Message(t.Context(), viewOf(sample))
	if err == nil || !strings.Contains(err.Error(), "too many recipients") {
		t.Error(err)
	}
}
