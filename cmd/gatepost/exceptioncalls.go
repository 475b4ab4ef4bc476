package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"gatepost/filters/exception"
	"gatepost/proxy/control"
)

// exceptionAdded is the answer to the call "exception.add".
type exceptionAdded struct {
	Entry  *exception.Entry `json:"entry"`
	Unread bool             `json:"unread,omitempty"` // no rule reads what it changes
}

// handleExceptions registers what `gatepost allow` and `gatepost block` ask of a running proxy.
func (h *house) handleExceptions() {
	h.control.Handle("exception.add", func(ctx context.Context, arguments json.RawMessage) (any, error) {
		r, filter, err := h.exceptionCall(arguments)
		if err != nil {
			return nil, err
		}
		entry, err := filter.Add(ctx, r, control.Caller(ctx))
		if err != nil {
			return nil, err
		}
		h.log.Info("exception: added by command", "action", entry.Action, "kind", entry.Kind, "value", entry.Value, "until", entry.Expires,
			"by", entry.By, "why", entry.Why)
		return exceptionAdded{entry, !h.isRead("exception." + string(entry.Kind))}, nil
	})
	h.control.Handle("exception.remove", func(ctx context.Context, arguments json.RawMessage) (any, error) {
		r, filter, err := h.exceptionCall(arguments)
		if err != nil {
			return nil, err
		}
		n, err := filter.Remove(ctx, r)
		if n > 0 {
			h.log.Info("exception: removed by command", "action", r.Action, "value", r.Value, "by", control.Caller(ctx))
		}
		return n, err
	})
	h.control.HandleStream("exception.list", func(ctx context.Context, arguments json.RawMessage, send func(any) error) error {
		r, filter, err := h.exceptionCall(arguments)
		if err != nil {
			return err
		}
		list, err := filter.List(ctx, r.Action)
		if err != nil {
			return err
		}
		for _, e := range list {
			if err := send(e); err != nil {
				return err
			}
		}
		return nil
	})
}

func (h *house) exceptionCall(arguments json.RawMessage) (r exception.Request, filter *exception.Filter, err error) {
	if err := json.Unmarshal(arguments, &r); err != nil {
		return r, nil, err
	}
	h.mu.Lock()
	filter, _ = h.force.engine.Filter("exception").(*exception.Filter)
	h.mu.Unlock()
	if filter == nil {
		return r, nil, errors.New("the filter exception is off")
	}
	return r, filter, nil
}

// isRead tells whether a rule in force reads a fact.
func (h *house) isRead(fact string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.force.engine.Rules().Rules() {
		if slices.Contains(r.Fields, fact) {
			return true
		}
	}
	return false
}
