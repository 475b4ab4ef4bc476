package metrics

import (
	"gatepost/proxy/histogram"
	"gatepost/proxy/store"
)

// eachBackend reads one number of every backend.
func eachBackend(read func(st *backendStats) float64) func(*moment, *out) {
	return func(s *moment, o *out) {
		for i := range s.backends {
			st := &s.backends[i]
			o.value(read(st), st.Address, st.use)
		}
	}
}

// eachBackendTakes reads a distribution of every backend.
func eachBackendTakes(read func(st *backendStats) histogram.Snapshot) func(*moment, *out) {
	return func(s *moment, o *out) {
		for i := range s.backends {
			st := &s.backends[i]
			o.histogram(read(st), st.Address, st.use)
		}
	}
}

const useHelp = " Counted since the backends were last configured."

var backendFamilies = []family{
	{Metric{"gatepost_backend_up", Gauge, labelled("backend", "use"), "1 if the backend was reached, and the last attempt to reach it did not fail. `use` is mail or submission."},
		eachBackend(func(st *backendStats) float64 { return flag(st.Up) })},
	{Metric{"gatepost_backend_usable", Gauge, labelled("backend", "use"), "1 if mail may go there as far as the relay check is concerned."},
		eachBackend(func(st *backendStats) float64 { return flag(st.Usable) })},
	{Metric{"gatepost_backend_connections", Gauge, labelled("backend", "use", "state"), "Connections now: used (or being opened), idle (kept for the next client)."},
		func(s *moment, o *out) {
			for _, st := range s.backends {
				o.value(float64(st.Open-st.Idle), st.Address, st.use, "used")
				o.value(float64(st.Idle), st.Address, st.use, "idle")
			}
		}},
	{Metric{"gatepost_backend_connections_limit", Gauge, labelled("backend", "use"), "Connections that there may be at present: backend.connections, or less while the backend turns some away."},
		eachBackend(func(st *backendStats) float64 { return float64(st.Limit) })},
	{Metric{"gatepost_backend_waiting", Gauge, labelled("backend", "use"), "Sessions that wait for a connection because all are in use."},
		eachBackend(func(st *backendStats) float64 { return float64(st.Waiting) })},
	{Metric{"gatepost_backend_dials_total", Counter, labelled("backend", "use", "result"), "Backend sessions asked for: new (a new connection), reused (a kept one), " +
		"refused (the backend's word on this client), failed." + useHelp},
		func(s *moment, o *out) {
			for _, st := range s.backends {
				o.value(float64(st.Opened), st.Address, st.use, "new")
				o.value(float64(st.Reused), st.Address, st.use, "reused")
				o.value(float64(st.Refused), st.Address, st.use, "refused")
				o.value(float64(st.Failed), st.Address, st.use, "failed")
			}
		}},
	{Metric{"gatepost_backend_lost_messages_total", Counter, labelled("backend", "use"), "Messages sent that got no final reply." + useHelp},
		eachBackend(func(st *backendStats) float64 { return float64(st.Lost) })},
	{Metric{"gatepost_backend_probe_failures_total", Counter, labelled("backend", "use"), "Probes that came to nothing." + useHelp},
		eachBackend(func(st *backendStats) float64 { return float64(st.ProbeFailed) })},
	{Metric{"gatepost_backend_dial_duration_seconds", Histogram, labelled("backend", "use"), "Until a session with the backend could be had, or not: the wait for a connection, connect, hand-over, EHLO." + useHelp},
		eachBackendTakes(func(st *backendStats) histogram.Snapshot { return st.Dial })},
	{Metric{"gatepost_backend_exchange_duration_seconds", Histogram, labelled("backend", "use"), "Until the backend answered a batch of commands." + useHelp},
		eachBackendTakes(func(st *backendStats) histogram.Snapshot { return st.Exchange })},
	{Metric{"gatepost_backend_message_duration_seconds", Histogram, labelled("backend", "use"), "From the first byte of a message to the backend's final reply." + useHelp},
		eachBackendTakes(func(st *backendStats) histogram.Snapshot { return st.Message })},
}

var resolverFamilies = []family{
	{Metric{"gatepost_resolver_lookups_total", Counter, labelled("result"), "Look-ups in the DNS: hit (known already), coalesced (joined one that was under way), asked (put to the servers)."},
		func(s *moment, o *out) {
			m := s.Resolver
			o.value(float64(m.Hits.Load()), "hit")
			o.value(float64(m.Coalesced.Load()), "coalesced")
			o.value(float64(m.Asked.Load()), "asked")
		}},
	{Metric{"gatepost_resolver_lookup_failures_total", Counter, nil, "Look-ups put to the servers that none of them answered."},
		single(func(s *Sources) uint64 { return s.Resolver.Failed.Load() })},
	{Metric{"gatepost_resolver_lookup_duration_seconds", Histogram, nil, "Until a look-up that was put to the servers was answered, or given up."},
		func(s *moment, o *out) { o.histogram(s.Resolver.Latency.Read()) }},
	{Metric{"gatepost_resolver_waits_total", Counter, nil, "Look-ups that waited because too many were under way (resolver.inflight)."},
		single(func(s *Sources) uint64 { return s.Resolver.Waits.Load() })},
	{Metric{"gatepost_resolver_queries_total", Counter, labelled("protocol"), "Messages sent to DNS servers."},
		func(s *moment, o *out) {
			m := s.Resolver
			o.value(float64(m.UDP.Load()), "udp")
			o.value(float64(m.TCP.Load()), "tcp")
		}},
	{Metric{"gatepost_resolver_query_failures_total", Counter, labelled("reason"), "Queries without an answer in time (timeout), and those that failed otherwise (error): " +
		"SERVFAIL, REFUSED, a malformed answer, no route."},
		func(s *moment, o *out) {
			o.value(float64(s.Resolver.Timeouts.Load()), "timeout")
			o.value(float64(s.Resolver.Failures.Load()), "error")
		}},
	{Metric{"gatepost_resolver_mismatched_replies_total", Counter, nil, "Replies that did not fit the question. Many at a time are an attack."},
		single(func(s *Sources) uint64 { return s.Resolver.Mismatched.Load() })},
}

// storeValue reads a number of the store's.
func storeValue(read func(st *store.Stats) float64) func(*moment, *out) {
	return func(s *moment, o *out) {
		o.value(read(&s.store))
	}
}

// eachOperation reads a number of every operation of the store.
func eachOperation(read func(st store.OperationStats) int64) func(*moment, *out) {
	return func(s *moment, o *out) {
		for i, st := range s.store.Operations {
			o.value(float64(read(st)), store.Operation(i).String())
		}
	}
}

var storeFamilies = []family{
	{Metric{"gatepost_store_operations_total", Counter, labelled("operation"), "Decisions asked of the store: peek, attempt, pass, forget, range, merge."},
		eachOperation(func(st store.OperationStats) int64 { return st.Calls })},
	{Metric{"gatepost_store_operation_errors_total", Counter, labelled("operation"), "Of these, those that failed."},
		eachOperation(func(st store.OperationStats) int64 { return st.Errors })},
	{Metric{"gatepost_store_failing", Gauge, nil, "1 while the disk does not take marks; Gatepost goes on from memory."},
		storeValue(func(st *store.Stats) float64 { return flag(st.Failing != nil) })},
	{Metric{"gatepost_store_set_aside_total", Counter, nil, "Folders of marks that could not be read and were set aside; Gatepost began anew."},
		storeValue(func(st *store.Stats) float64 { return float64(st.SetAside) })},
	{Metric{"gatepost_store_entries", Gauge, nil, "Marks on disk, expired ones that were not swept yet included (store.max_entries bounds them)."},
		storeValue(func(st *store.Stats) float64 { return float64(st.Entries) })},
	{Metric{"gatepost_store_bytes", Gauge, nil, "What they take on disk."},
		storeValue(func(st *store.Stats) float64 { return float64(st.Bytes) })},
	{Metric{"gatepost_store_standings", Gauge, nil, "Networks and domains on disk of which it is known how things went with them (store.max_standings bounds them)."},
		storeValue(func(st *store.Stats) float64 { return float64(st.Standings) })},
	{Metric{"gatepost_store_untold_total", Counter, nil, "Messages that were not counted for a reputation, as there was no room."},
		storeValue(func(st *store.Stats) float64 { return float64(st.Untold) })},
	{Metric{"gatepost_store_pending", Gauge, nil, "Changed marks that are not on disk yet (store.max_pending bounds them)."},
		storeValue(func(st *store.Stats) float64 { return float64(st.Pending) })},
	{Metric{"gatepost_store_refused_total", Counter, nil, "Decisions that found no room for their marks."},
		storeValue(func(st *store.Stats) float64 { return float64(st.Refused) })},
	{Metric{"gatepost_store_removed_total", Counter, labelled("reason"), "Marks removed: expired (after their time), evicted (before it, to keep the bound), dropped (lost on the way to disk)."},
		func(s *moment, o *out) {
			o.value(float64(s.store.Expired), "expired")
			o.value(float64(s.store.Evicted), "evicted")
			o.value(float64(s.store.Dropped), "dropped")
		}},
}
