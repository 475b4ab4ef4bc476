package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"gatepost/filters/exception"
	"gatepost/proxy/control"
	"gatepost/proxy/journal"
)

// exceptionAdded is the answer to the call "exception.add".
type exceptionAdded struct {
	Entry  *exception.Entry `json:"entry"`
	Unread bool             `json:"unread,omitempty"` // no rule reads what it changes
}

// handleExceptions registers what `gatepost allow` and `gatepost block` ask of a running proxy.
func (h *house) handleExceptions() {
	h.control.Handle("exception.add", func(ctx context.Context, arguments json.RawMessage) (any, error) {
		r, err := exceptionRequest(arguments)
		if err != nil {
			return nil, err
		}
		return h.addException(ctx, r, control.Caller(ctx))
	})
	h.control.Handle("exception.remove", func(ctx context.Context, arguments json.RawMessage) (any, error) {
		r, err := exceptionRequest(arguments)
		if err != nil {
			return nil, err
		}
		return h.removeException(ctx, r, control.Caller(ctx))
	})
	h.control.HandleStream("exception.list", func(ctx context.Context, arguments json.RawMessage, send func(any) error) error {
		r, err := exceptionRequest(arguments)
		if err != nil {
			return err
		}
		filter, err := h.exceptions()
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

func exceptionRequest(arguments json.RawMessage) (r exception.Request, err error) {
	return r, json.Unmarshal(arguments, &r)
}

// addException makes one, for somebody.
func (h *house) addException(ctx context.Context, r exception.Request, by string) (*exceptionAdded, error) {
	filter, err := h.exceptions()
	if err != nil {
		return nil, err
	}
	entry, err := filter.Add(ctx, r, by)
	if err != nil {
		return nil, err
	}
	h.log.Info("exception: added by command", "action", entry.Action, "kind", entry.Kind, "value", entry.Value, "until", entry.Expires,
		"by", by, "why", entry.Why)
	h.changed(journal.Change{What: string(entry.Action), By: by, Kind: string(entry.Kind), About: entry.Value, Until: entry.Expires, Why: entry.Why})
	return &exceptionAdded{entry, !h.isRead("exception." + string(entry.Kind))}, nil
}

var exceptionEnded = map[exception.Action]string{exception.Allow: journal.AllowEnd, exception.Block: journal.BlockEnd}

// removeException ends some, and returns how many there were.
func (h *house) removeException(ctx context.Context, r exception.Request, by string) (int, error) {
	filter, err := h.exceptions()
	if err != nil {
		return 0, err
	}
	n, err := filter.Remove(ctx, r)
	if n > 0 {
		h.log.Info("exception: removed by command", "action", r.Action, "value", r.Value, "by", by)
		h.changed(journal.Change{What: exceptionEnded[r.Action], By: by, Kind: string(r.Kind), About: r.Value})
	}
	return n, err
}

// exceptions is the filter in force.
func (h *house) exceptions() (*exception.Filter, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if filter, ok := h.force.engine.Filter("exception").(*exception.Filter); ok && filter != nil {
		return filter, nil
	}
	return nil, errors.New("the filter exception is off")
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
