// Package called is what the front ends have in common that MTAs call, the milter and the policy server: the addresses
// under which they are called and who may, the connections, their limits, and how they end.
//
//	Server.Serve: accept ── peers, limits.connections ── Conn ── Session.Serve … Session.Leave
//
// A front end brings the sessions. Each has a goroutine, which nobody but itself ends: Shutdown interrupts reads by a
// deadline, and a session that is in the middle of something goes on.
package called
