package policy

import (
	"context"
	"slices"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/rules"
)

// What running a decision again needs is in the record: each recipient with what its filters found and whether the
// backend was asked, the greylister's answer, how far it came.
func TestRecordHoldsTheDialogue(t *testing.T) {
	first := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f := &fakes{
		dnsbl: hangs[listFacts](), spf: fails[spfFacts](),
		quota: func(_ context.Context, v filters.View) (*quotaFacts, error) {
			return &quotaFacts{Over: v.Recipient.ForwardPath == "full@example.org"}, nil
		},
		grey: &greylist{state: filters.GreylistPassed, first: first},
	}
	c := f.connect(t,
		"quota.over -> defer",
		`rcpt.local == "slow" -> greylist`,
		`header("Subject") == "lottery" -> reject`,
		"dnsbl.score > 4 -> reject; mode: observe",
		`spf.result == "fail" -> reject`,
	)
	c.hello()
	c.mail("a@example.com")
	c.Rcpt(c.ctx, &filters.Recipient{ForwardPath: "full@example.org", Params: []filters.Param{{Key: "NOTIFY", Value: "NEVER", HasValue: true}}})
	c.Rcpt(c.ctx, &filters.Recipient{ForwardPath: "nobody@example.org"})
	c.Refused(rules.Reply{Code: 550, Enhanced: "5.1.1", Text: "No such user"})
	c.rcpt("slow@example.org")
	v, _ := c.message("Subject: lottery\r\n\r\n")
	expect(t, "message", v, "550 5.7.1")
	c.Conclude(Ending{Reply: v.Reply, Ours: true})
	c.Close("")

	tx, session := c.records[0], c.records[1]
	full, nobody, slow := tx.Recipients[0], tx.Recipients[1], tx.Recipients[2]
	if full.Asked || full.Action != rules.Defer || full.Params[0].Key != "NOTIFY" || !full.Filters[0].Facts.(*quotaFacts).Over {
		t.Errorf("refused by a rule: %+v", full)
	}
	if !nobody.Asked || nobody.Ours || nobody.Reply.Enhanced != "5.1.1" || nobody.Filters[0].Facts.(*quotaFacts).Over {
		t.Errorf("refused by the backend: %+v", nobody)
	}
	if !slow.Asked || slow.Reply.Code != 250 {
		t.Errorf("accepted: %+v", slow)
	}
	if a := tx.Attempt; a == nil || a.Recipient != 2 || a.State != filters.GreylistPassed || a.First != first {
		t.Errorf("greylisting: %+v", a)
	}
	if tx.Reached != StepEnd || tx.Refused == nil || tx.Refused.Action != rules.Reject || tx.Refused.Rule.Name != "rule2" {
		t.Errorf("the end: %v, %+v", tx.Reached, tx.Refused)
	}
	if !slices.Equal(tx.Headers, []string{"Subject"}) {
		t.Errorf("headers: %q", tx.Headers)
	}
	var stood []string
	for _, f := range tx.Filters {
		stood = append(stood, f.Name+" "+f.Status)
	}
	if want := []string{"dnsbl unfinished", "spf error"}; !slices.Equal(stood, want) {
		t.Errorf("filters: %q, want %q", stood, want)
	}
	if session.Reached != StepHelo || session.Refused != nil || session.Transactions != 1 {
		t.Errorf("the session: %+v", session)
	}
}

func TestRecordOfARefusalBeforeMail(t *testing.T) {
	f := &fakes{helo: answers(heloCheckFacts{})}
	c := f.connect(t, "not helo.valid -> reject; at: helo")
	v := c.hello()
	c.Close("")
	if r := c.records[0]; r.Reached != StepHelo || r.Refused == nil || r.Refused.Reply != v.Reply || r.Refused.Rule == nil || r.Transactions != 0 {
		t.Errorf("%+v", r)
	}
}

// Settings tell whether what a filter with a memory found still holds.
func TestSettingsOfFiltersWithAMemory(t *testing.T) {
	digestOf := func(f *fakes) Settings { return compile(t, f, f.config("client.port == 0 -> reject")).settings }
	with, without := digestOf(&fakes{grey: &greylist{}}), digestOf(&fakes{off: []string{"greylist"}})
	if with.Greylist == 0 || without.Greylist != 0 {
		t.Errorf("greylist on %d, off %d", with.Greylist, without.Greylist)
	}
	type settings struct{ Delay filters.Duration }
	if digest(&settings{1}) != digest(&settings{1}) || digest(&settings{1}) == digest(&settings{2}) {
		t.Error("digests do not tell settings apart")
	}
}
