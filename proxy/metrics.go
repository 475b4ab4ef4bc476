package proxy

import "sync/atomic"

// Metrics counts what the front end does. Every field is safe for concurrent use; all but Open only grow.
type Metrics struct {
	Open     atomic.Int64 // sessions now
	Sessions atomic.Int64 // sessions ever
	TLS      atomic.Int64 // TLS handshakes that succeeded

	RefusedFull      atomic.Int64 // connections refused by limits.connections
	RefusedPerClient atomic.Int64 // connections refused by limits.connections_per_client
	RefusedNoBackend atomic.Int64 // connections refused because no backend was ever seen
	AcceptErrors     atomic.Int64
	LimitCommands    atomic.Int64 // sessions ended by limits.commands
	LimitErrors      atomic.Int64 // sessions ended by limits.errors
	LimitAbandoned   atomic.Int64 // sessions ended by limits.abandoned
	AuthFailures     atomic.Int64 // AUTH commands that the backend refused
	Timeouts         atomic.Int64 // sessions ended because the client was silent
	TooSlow          atomic.Int64 // sessions ended by limits.min_data_rate
	Panics           atomic.Int64 // sessions ended by a mistake of ours

	Accepted   atomic.Int64 // messages that the backend took
	Refused    atomic.Int64 // messages refused for good (5yz), by us or by the backend
	Deferred   atomic.Int64 // messages refused for now (4yz), by us or by the backend
	Discarded  atomic.Int64 // messages that a rule threw away behind a 250 of ours
	Kept       atomic.Int64 // messages that a rule put into quarantine behind a 250 of ours
	Suppressed atomic.Int64 // messages answered 250 because they had been delivered before
	Bytes      atomic.Int64 // bytes of messages received
	Spilled    atomic.Int64 // messages of which a part went to a file
	SpillFull  atomic.Int64 // messages refused with 452 because the room for such files was used up
	Replays    atomic.Int64 // transactions said again to a backend
	LostAfter  atomic.Int64 // messages whose backend fell silent after the final dot
	DialErrors atomic.Int64 // transactions for which no backend could be had

	Unconfirmed atomic.Int64 // deliveries whose client left without a sign that it has read the reply
	ClockSteps  atomic.Int64 // times that the clock was set by five seconds or more
	SpillErrors atomic.Int64 // messages refused because their file could not be made, written or read
	StoreErrors atomic.Int64 // times that the store could not be asked about duplicates, or told of a delivery
}

// Gauges is what the front end uses now.
type Gauges struct {
	Memory    int64 // bytes claimed for messages
	Listeners int   // sockets that are served
	Closing   bool  // Shutdown was called
}

// Gauges returns what the front end uses now.
func (s *Server) Gauges() Gauges {
	return Gauges{Memory: s.memory.Used(), Listeners: len(s.doors.Open()), Closing: s.closing.Load()}
}
