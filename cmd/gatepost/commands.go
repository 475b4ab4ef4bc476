package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"gatepost/filters"
	"gatepost/filters/greylist"
)

// bypassRequest is the argument of the call "bypass".
type bypassRequest struct {
	For filters.Duration `json:"for"` // 0 ends it
}

// greylistRequest is the argument of the calls "greylist.…".
type greylistRequest struct {
	Query string `json:"query"`
}

// maxBypass keeps a forgotten panic button from staying pressed.
const maxBypass = 7 * 24 * time.Hour

// handleCommands registers what the commands of this program ask of a running proxy.
func (h *house) handleCommands() {
	h.control.Handle("bypass", func(_ context.Context, arguments json.RawMessage) (any, error) {
		var r bypassRequest
		if err := json.Unmarshal(arguments, &r); err != nil {
			return nil, err
		}
		return h.setBypass(time.Duration(r.For))
	})
	h.handleExceptions()
	h.handleQuarantine()
	h.control.HandleStream("dmarc.reports", h.dmarcReports)
	h.control.HandleStream("greylist.list", func(ctx context.Context, arguments json.RawMessage, send func(any) error) error {
		query, filter, err := h.greylistCall(arguments)
		if err != nil {
			return err
		}
		var sent error
		err = filter.List(ctx, query, func(e greylist.Entry) bool {
			sent = send(e)
			return sent == nil
		})
		return errors.Join(err, sent)
	})
	h.control.Handle("greylist.pass", func(ctx context.Context, arguments json.RawMessage) (any, error) {
		query, filter, err := h.greylistCall(arguments)
		if err != nil {
			return nil, err
		}
		key, err := filter.Pass(ctx, query)
		if err == nil {
			h.log.Info("greylist: passed by command", "key", key)
		}
		return key, err
	})
	h.control.Handle("greylist.forget", func(ctx context.Context, arguments json.RawMessage) (any, error) {
		query, filter, err := h.greylistCall(arguments)
		if err != nil {
			return nil, err
		}
		keys, err := filter.Forget(ctx, query)
		h.log.Info("greylist: forgotten by command", "query", query, "marks", len(keys))
		return len(keys), err
	})
}

// setBypass switches the panic button and returns until when it is on.
func (h *house) setBypass(span time.Duration) (time.Time, error) {
	if span > maxBypass {
		return time.Time{}, fmt.Errorf("a bypass lasts %s at most; ask again when it ends", filters.Duration(maxBypass))
	}
	if span <= 0 {
		h.runtime.Bypass.Set(time.Time{})
		h.log.Warn("bypass is off: rules are enforced again")
		return time.Time{}, nil
	}
	until := h.clock.Now().Add(span)
	h.runtime.Bypass.Set(until)
	h.log.Warn("bypass is on: rules are recorded and not enforced", "until", until.Format(time.RFC3339))
	return until, nil
}

func (h *house) greylistCall(arguments json.RawMessage) (query string, filter *greylist.Filter, err error) {
	var r greylistRequest
	if err := json.Unmarshal(arguments, &r); err != nil {
		return "", nil, err
	}
	h.mu.Lock()
	filter, _ = h.force.engine.Filter("greylist").(*greylist.Filter)
	h.mu.Unlock()
	if filter == nil {
		return "", nil, errors.New("the filter greylist is off")
	}
	return r.Query, filter, nil
}
