package main

import (
	"context"
	"encoding/json"
	"errors"

	"gatepost/filters"
	"gatepost/proxy/control"
	"gatepost/proxy/journal"
)

// storeStatus answers the call "store.status".
type storeStatus struct {
	State   string `json:"state"`
	Entries int64  `json:"entries"` // marks in the embedded store
}

// storeMark is an item of the stream "store.read". Keys are bytes: JSON's texts would change some.
type storeMark struct {
	Space string       `json:"space"`
	Key   []byte       `json:"key"`
	Mark  filters.Mark `json:"mark"`
}

// storeMerge is the argument of the call "store.merge".
type storeMerge struct {
	Space string         `json:"space"`
	Keys  [][]byte       `json:"keys"`
	Marks []filters.Mark `json:"marks"`
}

// storeStanding is an item of the stream "store.standings".
type storeStanding struct {
	Key      []byte           `json:"key"`
	Standing filters.Standing `json:"standing"`
}

// storeMergeStandings is the argument of the call "store.mergestandings".
type storeMergeStandings struct {
	Standings []storeStanding `json:"standings"`
}

// handleStandings registers what `gatepost store copy` asks of standings.
func (h *house) handleStandings() {
	h.control.HandleStream("store.standings", func(ctx context.Context, _ json.RawMessage, send func(any) error) error {
		var sent error
		err := h.store.RangeStandings(ctx, "", func(key string, s filters.Standing) bool {
			sent = send(storeStanding{[]byte(key), s})
			return sent == nil
		})
		return errors.Join(err, sent)
	})
	h.control.Handle("store.mergestandings", func(ctx context.Context, arguments json.RawMessage) (any, error) {
		var r storeMergeStandings
		if err := json.Unmarshal(arguments, &r); err != nil {
			return nil, err
		}
		keys, standings := make([]string, len(r.Standings)), make([]filters.Standing, len(r.Standings))
		for i, s := range r.Standings {
			keys[i], standings[i] = string(s.Key), s.Standing.Add(filters.Standing{}) // within bounds
		}
		return nil, mergePatiently(ctx, h.store, func() error { return h.store.MergeStandings(ctx, keys, standings) })
	})
}

func (h *house) handleStoreCommands() {
	h.handleStandings()
	h.control.Handle("store.status", func(context.Context, json.RawMessage) (any, error) {
		st := storeStatus{State: "there is no shared store (store.redis)", Entries: h.store.Stats().Entries}
		if h.shared != nil {
			stats := h.shared.Stats()
			st.State = stats.State()
		}
		return st, nil
	})
	h.control.HandleStream("store.read", func(ctx context.Context, _ json.RawMessage, send func(any) error) error {
		var sent error
		err := h.store.Each(ctx, func(space, key string, m filters.Mark) bool {
			sent = send(storeMark{space, []byte(key), m})
			return sent == nil
		})
		return errors.Join(err, sent)
	})
	h.control.Handle("store.merge", func(ctx context.Context, arguments json.RawMessage) (any, error) {
		var r storeMerge
		if err := json.Unmarshal(arguments, &r); err != nil {
			return nil, err
		}
		if len(r.Keys) != len(r.Marks) {
			return nil, errors.New("there must be as many marks as keys")
		}
		keys := make([]string, len(r.Keys))
		for i, key := range r.Keys {
			keys[i] = string(key)
		}
		err := mergePatiently(ctx, h.store, func() error { return h.store.Merge(ctx, r.Space, keys, r.Marks) })
		if err != nil {
			return nil, err
		}
		h.changed(journal.Change{What: journal.Merge, By: control.Caller(ctx), Note: counted(len(keys), "mark") + " of " + r.Space})
		return nil, nil
	})
}
