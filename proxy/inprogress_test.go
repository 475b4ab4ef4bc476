package proxy

import (
	"testing"
	"time"
)

// inProgress waits until the sessions that are shown are as wanted.
func (h *house) inProgress(limit int, want func([]InProgress) bool) []InProgress {
	h.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		list := h.server.InProgress(limit)
		if want(list) {
			return list
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%+v", list)
		}
	}
}

func at(stage Stage) func([]InProgress) bool {
	return func(list []InProgress) bool { return len(list) == 1 && list[0].Stage == stage }
}

func TestSessionsInProgressAreShown(t *testing.T) {
	h := start(t, setup{})
	c := h.dial()
	c.expect("220")
	h.inProgress(10, at(StageCommands))
	c.say("EHLO client.example.net", "250")
	c.say("MAIL FROM:<joe@example.net>", "250")
	h.inProgress(10, at(StageMail))
	c.say("RCPT TO:<ann@example.org>", "250")
	h.inProgress(10, at(StageRcpt))
	c.say("DATA", "354")
	list := h.inProgress(10, at(StageData))
	p := list[0]
	if p.Greeting == nil || p.Greeting.Name != "client.example.net" || !p.Session.Client.IP.IsLoopback() || p.Waits != "" || p.Since > time.Minute {
		t.Errorf("%+v", p)
	}
	c.send("Subject: x\r\n\r\n")
	h.inProgress(10, func(list []InProgress) bool {
		return len(list) == 1 && list[0].Bytes == int64(len("Subject: x\r\n\r\n"))
	})
	c.say("x\r\n.", "250")
	h.inProgress(10, at(StageCommands))
	c.say("QUIT", "221")
	h.inProgress(10, func(list []InProgress) bool { return len(list) == 0 })
}

// The oldest come first, and are those that are left where there are too many.
func TestSessionsInProgressAreBounded(t *testing.T) {
	h := start(t, setup{})
	var ids []string
	for i := range 5 {
		c := h.dial()
		c.expect("220")
		list := h.inProgress(10, func(list []InProgress) bool { return len(list) == i+1 })
		ids = append(ids, list[i].Session.ID)
	}
	list := h.server.InProgress(3)
	if len(list) != 3 || list[0].Session.ID != ids[0] || list[2].Session.ID != ids[2] {
		t.Errorf("%+v, of %q", list, ids)
	}
	if list := h.server.InProgress(0); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}
