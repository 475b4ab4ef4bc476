package resolver

import (
	"sync/atomic"

	"gatepost/proxy/histogram"
)

// Metrics counts what the resolver did since it was made.
type Metrics struct {
	Hits       atomic.Uint64 // look-ups answered from memory
	Coalesced  atomic.Uint64 // look-ups that joined a question on its way
	Asked      atomic.Uint64 // look-ups that were put to the servers
	Waits      atomic.Uint64 // look-ups that waited because too many questions were on their way
	Queries    atomic.Uint64 // messages sent, over UDP and TCP
	UDP        atomic.Uint64 // of these over UDP
	TCP        atomic.Uint64 // of these over TCP
	Timeouts   atomic.Uint64 // queries without an answer in time
	Failures   atomic.Uint64 // queries that failed otherwise: SERVFAIL, REFUSED, a malformed answer, no route
	Mismatched atomic.Uint64 // replies that did not fit the question; many at a time are an attack
	Failed     atomic.Uint64 // look-ups put to the servers that none answered

	Latency histogram.Histogram // of look-ups that were put to the servers
}
