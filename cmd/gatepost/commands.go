package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"gatepost/filters"
	"gatepost/filters/greylist"
	"gatepost/proxy/control"
	"gatepost/proxy/journal"
)

// bypassRequest is the argument of the call "bypass".
type bypassRequest struct {
	For filters.Duration `json:"for"` // 0 ends it
}

// greylistRequest is the argument of the calls "greylist.…".
type greylistRequest struct {
	Query string `json:"query"`
}

// learnRequest is the argument of the call "greylist.learn".
type learnRequest struct {
	Passes []greylist.Learned `json:"passes"`
}

// learned is its value.
type learned struct {
	Added   int `json:"added"`
	Invalid int `json:"invalid"`
}

// maxBypass keeps a forgotten panic button from staying pressed.
const maxBypass = 7 * 24 * time.Hour

// handleCommands registers what the commands of this program ask of a running proxy.
func (h *house) handleCommands() {
	h.control.Handle("bypass", func(ctx context.Context, arguments json.RawMessage) (any, error) {
		var r bypassRequest
		if err := json.Unmarshal(arguments, &r); err != nil {
			return nil, err
		}
		return h.setBypass(time.Duration(r.For), control.Caller(ctx))
	})
	h.handleExceptions()
	h.handleLearned()
	h.handleQuarantine()
	h.handleStoreCommands()
	h.handleUpgrade()
	h.control.HandleStream("dmarc.reports", h.dmarcReports)
	h.control.HandleStream("greylist.list", func(ctx context.Context, arguments json.RawMessage, send func(any) error) error {
		var r greylistRequest
		if err := json.Unmarshal(arguments, &r); err != nil {
			return err
		}
		filter, err := h.greylister()
		if err != nil {
			return err
		}
		var sent error
		err = filter.List(ctx, r.Query, func(e greylist.Entry) bool {
			sent = send(e)
			return sent == nil
		})
		return errors.Join(err, sent)
	})
	h.control.HandleStream("greylist.known", func(ctx context.Context, _ json.RawMessage, send func(any) error) error {
		filter, err := h.greylister()
		if err != nil {
			return err
		}
		var sent error
		err = filter.Known(ctx, func(l greylist.Learned) bool {
			sent = send(l)
			return sent == nil
		})
		return errors.Join(err, sent)
	})
	h.control.Handle("greylist.learn", func(ctx context.Context, arguments json.RawMessage) (any, error) {
		var r learnRequest
		if err := json.Unmarshal(arguments, &r); err != nil {
			return nil, err
		}
		filter, err := h.greylister()
		if err != nil {
			return nil, err
		}
		added, invalid, err := filter.Learn(ctx, r.Passes)
		h.log.Debug("greylist: learned by command", "passes", len(r.Passes), "added", added, "invalid", invalid)
		if added > 0 {
			h.changed(journal.Change{What: journal.Learn, By: control.Caller(ctx), Note: counted(added, "pass") + " of " + strconv.Itoa(len(r.Passes))})
		}
		return learned{Added: added, Invalid: invalid}, err
	})
	h.control.Handle("greylist.pass", func(ctx context.Context, arguments json.RawMessage) (any, error) {
		var r greylistRequest
		if err := json.Unmarshal(arguments, &r); err != nil {
			return nil, err
		}
		return h.passGreylist(ctx, r.Query, control.Caller(ctx))
	})
	h.control.Handle("greylist.forget", func(ctx context.Context, arguments json.RawMessage) (any, error) {
		var r greylistRequest
		if err := json.Unmarshal(arguments, &r); err != nil {
			return nil, err
		}
		return h.forgetGreylist(ctx, r.Query, control.Caller(ctx))
	})
}

// passGreylist lets what a query names pass, for somebody.
func (h *house) passGreylist(ctx context.Context, query, by string) (key string, err error) {
	filter, err := h.greylister()
	if err != nil {
		return "", err
	}
	if key, err = filter.Pass(ctx, query); err == nil {
		h.log.Info("greylist: passed by command", "key", key, "by", by)
		h.changed(journal.Change{What: journal.Pass, By: by, About: query})
	}
	return key, err
}

// forgetGreylist forgets what a query finds, and returns how many marks that were.
func (h *house) forgetGreylist(ctx context.Context, query, by string) (int, error) {
	filter, err := h.greylister()
	if err != nil {
		return 0, err
	}
	keys, err := filter.Forget(ctx, query)
	h.log.Info("greylist: forgotten by command", "query", query, "marks", len(keys), "by", by)
	if len(keys) > 0 {
		h.changed(journal.Change{What: journal.Forget, By: by, About: query, Note: counted(len(keys), "mark") + " of greylisting"})
	}
	return len(keys), err
}

// setBypass switches the panic button and returns until when it is on.
func (h *house) setBypass(span time.Duration, by string) (time.Time, error) {
	if span > maxBypass {
		return time.Time{}, fmt.Errorf("a bypass lasts %s at most; ask again when it ends", filters.Duration(maxBypass))
	}
	if span <= 0 {
		h.runtime.Bypass.Set(time.Time{})
		h.log.Warn("bypass is off: rules are enforced again", "by", by)
		h.changed(journal.Change{What: journal.BypassEnd, By: by})
		return time.Time{}, nil
	}
	until := h.clock.Now().Add(span)
	h.runtime.Bypass.Set(until)
	h.log.Warn("bypass is on: rules are recorded and not enforced", "until", until.Format(time.RFC3339), "by", by)
	h.changed(journal.Change{What: journal.Bypass, By: by, Until: until})
	return until, nil
}

// greylister is the filter in force.
func (h *house) greylister() (*greylist.Filter, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if filter, ok := h.force.engine.Filter("greylist").(*greylist.Filter); ok && filter != nil {
		return filter, nil
	}
	return nil, errors.New("the filter greylist is off")
}
