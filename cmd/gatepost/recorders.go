package main

import (
	"log/slog"
	"time"

	"gatepost/policy"
	"gatepost/proxy/telemetry"
)

// newRecorder is what the log is told by.
func newRecorder(log *slog.Logger) policy.Recorder { return telemetry.Recorder{Log: log} }

// recorders tells several recorders, one after the other.
type recorders []policy.Recorder

// Record implements [policy.Recorder].
func (rs recorders) Record(r *policy.Record) {
	for _, one := range rs {
		one.Record(r)
	}
}

// Confirmed implements [policy.Confirmer].
func (rs recorders) Confirmed(transactionID string, at time.Time) {
	for _, one := range rs {
		if c, ok := one.(policy.Confirmer); ok {
			c.Confirmed(transactionID, at)
		}
	}
}
