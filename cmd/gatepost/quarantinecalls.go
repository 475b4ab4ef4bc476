package main

import (
	"context"
	"encoding/json"
	"fmt"

	"gatepost/proxy/control"
	"gatepost/proxy/journal"
	"gatepost/proxy/quarantine"
)

// quarantineRequest is the argument of the calls that are about one message.
type quarantineRequest struct {
	ID string `json:"id"`
}

// quarantineReleased is the answer to the call "quarantine.release". Problem comes with an outcome that was not written down.
type quarantineReleased struct {
	*quarantine.Outcome
	Problem string `json:"problem,omitempty"`
}

// handleQuarantine registers what `gatepost quarantine` asks of a running proxy.
func (h *house) handleQuarantine() {
	h.control.Handle("quarantine.list", func(ctx context.Context, arguments json.RawMessage) (any, error) {
		var query quarantine.Query
		if err := json.Unmarshal(arguments, &query); err != nil {
			return nil, err
		}
		return h.quarantine.List(ctx, query)
	})
	h.handleKept("quarantine.show", func(ctx context.Context, id string) (any, error) { return h.quarantine.Show(ctx, id) })
	h.handleKept("quarantine.release", func(ctx context.Context, id string) (any, error) {
		o, err := h.releaseMessage(ctx, id, control.Caller(ctx))
		if o == nil {
			return nil, err
		}
		answer := quarantineReleased{Outcome: o}
		if err != nil {
			answer.Problem = err.Error()
		}
		return answer, nil
	})
	h.handleKept("quarantine.delete", func(ctx context.Context, id string) (any, error) {
		return nil, h.deleteMessage(ctx, id, control.Caller(ctx))
	})
}

// releaseMessage gives a message to the backend, for somebody. An outcome can come with an error: it was not written down.
func (h *house) releaseMessage(ctx context.Context, id, by string) (*quarantine.Outcome, error) {
	o, err := h.quarantine.Release(ctx, id)
	if o != nil {
		h.log.Info("quarantine: released by command", "id", id, "delivered", o.Delivered, "reply", o.Reply, "backend", o.Backend, "left", o.Left, "by", by)
		h.changed(journal.Change{What: journal.Release, By: by, About: id, Note: releaseNote(o)})
	}
	return o, err
}

// deleteMessage removes a message, for somebody.
func (h *house) deleteMessage(ctx context.Context, id, by string) error {
	err := h.quarantine.Delete(ctx, id)
	if err == nil {
		h.log.Info("quarantine: deleted by command", "id", id, "by", by)
		h.changed(journal.Change{What: journal.Delete, By: by, About: id})
	}
	return err
}

// releaseNote is what came of a release.
func releaseNote(o *quarantine.Outcome) string {
	delivered := 0
	for _, r := range o.Recipients {
		if r.Delivered {
			delivered++
		}
	}
	text := fmt.Sprintf("delivered to %d", delivered)
	if o.Left > 0 {
		text += fmt.Sprintf(", not to %d", o.Left)
	}
	if o.Reply != "" {
		text += fmt.Sprintf("; %s said: %s", o.Backend, o.Reply)
	}
	return text
}

// handleKept registers a call that is about one message.
func (h *house) handleKept(call string, answer func(ctx context.Context, id string) (any, error)) {
	h.control.Handle(call, func(ctx context.Context, arguments json.RawMessage) (any, error) {
		var r quarantineRequest
		if err := json.Unmarshal(arguments, &r); err != nil {
			return nil, err
		}
		return answer(ctx, r.ID)
	})
}
