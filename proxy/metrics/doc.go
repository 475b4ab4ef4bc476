// Package metrics exports what the house counts, for Prometheus.
//
// Who does the work counts it, in atomic counters of its own: nobody asks this package for anything on the way of a
// message. Families declare what becomes of the counters (name, type, labels, help text) and how they are read; they are
// read when Prometheus asks. docs/metrics.md is made from the same declarations.
//
//	proxy.Metrics, backend.Stats, resolver.Metrics, store.Stats ──┐
//	Recorder: one policy.Record after the other, counted ─────────┼── families ── Collector ── /metrics
//
// A counter is read as it was counted, never made of others: a difference of two that are counted one after the other can
// fall for a moment, which Prometheus takes for a restart.
//
// Every label has a bound: constants, backends and rules of the configuration, facts with few values. Nothing that a
// client says becomes one.
package metrics
