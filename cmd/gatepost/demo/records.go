package demo

import (
	"sync"
	"time"

	"gatepost/policy"
)

// Records collects what the proxy decided. It implements policy.Recorder.
type Records struct {
	mu      sync.Mutex // guards all below
	records []*policy.Record
	changed chan struct{} // closed at the next record
}

// NewRecords returns an empty collection.
func NewRecords() *Records { return &Records{changed: make(chan struct{})} }

// Record implements policy.Recorder.
func (r *Records) Record(record *policy.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, record)
	close(r.changed)
	r.changed = make(chan struct{})
}

// Reset forgets all records.
func (r *Records) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = nil
}

// recordTime bounds the wait for a record, which is written after the reply.
const recordTime = 5 * time.Second

// Wait waits for a record in which the rule of that name was enforced. It does not wait without a name.
func (r *Records) Wait(rule string) (*policy.Record, *policy.Match) {
	if rule == "" {
		return nil, nil
	}
	timeout := time.After(recordTime)
	for {
		r.mu.Lock()
		record, match := r.find(rule)
		changed := r.changed
		r.mu.Unlock()
		if match != nil {
			return record, match
		}
		select {
		case <-changed:
		case <-timeout:
			return nil, nil
		}
	}
}

func (r *Records) find(rule string) (*policy.Record, *policy.Match) {
	for i := len(r.records) - 1; i >= 0; i-- {
		for k := range r.records[i].Matched {
			if m := &r.records[i].Matched[k]; m.Rule.Name == rule && !m.Observed {
				return r.records[i], m
			}
		}
	}
	return nil, nil
}
