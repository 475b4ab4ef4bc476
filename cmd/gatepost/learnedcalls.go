package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"gatepost/filters"
	"gatepost/proxy/control"
	"gatepost/proxy/journal"
)

// learnedRequest is the argument of the calls "learned.…".
type learnedRequest struct {
	Memory string `json:"memory"`
	Query  string `json:"query,omitempty"`
}

// handleLearned registers what `gatepost known` and its like ask of a running proxy.
func (h *house) handleLearned() {
	h.control.Handle("learned.kind", func(_ context.Context, arguments json.RawMessage) (any, error) {
		m, _, err := h.askedMemory(arguments)
		if err != nil {
			return nil, err
		}
		return m.Kind(), nil
	})
	h.control.HandleStream("learned.list", func(ctx context.Context, arguments json.RawMessage, send func(any) error) error {
		m, query, err := h.askedMemory(arguments)
		if err != nil {
			return err
		}
		var sent error
		err = m.List(ctx, query, func(l filters.Learned) bool {
			sent = send(l)
			return sent == nil
		})
		return errors.Join(err, sent)
	})
	h.control.Handle("learned.forget", func(ctx context.Context, arguments json.RawMessage) (any, error) {
		var r learnedRequest
		if err := json.Unmarshal(arguments, &r); err != nil {
			return nil, err
		}
		return h.forgetLearned(ctx, r.Memory, r.Query, control.Caller(ctx))
	})
}

func (h *house) askedMemory(arguments json.RawMessage) (filters.Memory, string, error) {
	var r learnedRequest
	if err := json.Unmarshal(arguments, &r); err != nil {
		return nil, "", err
	}
	m, err := h.learned(r.Memory)
	return m, r.Query, err
}

// memories are what the filters in force have learned, in the order of the filters.
func (h *house) memories() (list []filters.Memory) {
	engine := h.inForce().engine
	for _, spec := range h.specs {
		if learner, ok := engine.Filter(spec.Name).(filters.Learner); ok {
			list = append(list, learner.Memories()...)
		}
	}
	return list
}

// learned finds a memory.
func (h *house) learned(name string) (filters.Memory, error) {
	for _, m := range h.memories() {
		if m.Kind().Name == name {
			return m, nil
		}
	}
	return nil, fmt.Errorf("nothing is learned under the name %q: its filter is off", name)
}

// forgetLearned forgets what a query finds, for somebody, and returns how much that was.
func (h *house) forgetLearned(ctx context.Context, memory, query, by string) (int, error) {
	m, err := h.learned(memory)
	if err != nil {
		return 0, err
	}
	n, err := m.Forget(ctx, query)
	if n > 0 {
		h.log.Info("learned: forgotten by command", "memory", memory, "query", query, "count", n, "by", by)
		h.changed(journal.Change{What: journal.Forget, By: by, About: query, Note: fmt.Sprintf("%d of %s", n, memory)})
	}
	return n, err
}
