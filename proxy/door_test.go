package proxy

import (
	"regexp"
	"testing"
	"time"

	"gatepost/policy"
)

// The reply to a client that is sent away at the door has an id: whoever asks about it finds a record.
func TestWhoIsTurnedAwayIsRecorded(t *testing.T) {
	h := start(t, setup{limits: func(l *Limits) { l.ConnectionsPerClient = 1 }})
	h.hello()
	reply := h.dial().reply()
	id := regexp.MustCompile(`\(id (\w+)\)`).FindStringSubmatch(reply)
	if id == nil {
		t.Fatalf("no id in %q", reply)
	}
	for limit := time.Now().Add(5 * time.Second); time.Now().Before(limit); time.Sleep(time.Millisecond) {
		r := h.journal.session(id[1])
		if r == nil {
			continue
		}
		if r.Ending.Reply.Code != 421 || !r.Ending.Ours || r.Reached != policy.StepConnect || r.Refused != nil || r.Ending.Note != "turned away" {
			t.Errorf("%+v", r)
		}
		return
	}
	t.Error("there is no record of it")
}

func (j *journal) session(id string) *policy.Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.records {
		if r.ID == id && r.Kind == policy.SessionRecord {
			return r
		}
	}
	return nil
}
