package policy

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/policy/deadline"
)

// While the gate waits for a filter, its context tells which one; and when the wait is over, that there is none.
func TestWhoIsWaitedForIsTold(t *testing.T) {
	answer := make(chan struct{})
	f := &fakes{spf: func(ctx context.Context, _ filters.View) (*spfFacts, error) {
		<-answer
		return &spfFacts{Result: "fail"}, nil
	}}
	c := f.connect(t, `spf.result == "fail" -> reject; at: mail`)
	c.hello()
	var waits atomic.Pointer[string]
	ctx := deadline.New(c.ctx, time.Now().Add(time.Minute)).Tell(&waits)
	defer ctx.Cancel()
	c.ctx = ctx
	verdicts := make(chan Verdict, 1)
	go func() { verdicts <- c.mail("a@example.com") }()
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if name := waits.Load(); name != nil {
			if *name != "spf" {
				t.Errorf("it waits for %q", *name)
			}
			break
		}
		if time.Now().After(limit) {
			t.Fatal("nobody tells")
		}
	}
	close(answer)
	expect(t, "mail", <-verdicts, "550 5.7.1 Refused by the policy of this site (id T1)")
	if name := waits.Load(); name != nil {
		t.Errorf("it is over, and %s is still waited for", *name)
	}
}
