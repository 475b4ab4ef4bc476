// Package faulttest breaks things around a whole proxy (server, policy, filters, resolver, store, as a configuration
// file puts them together) and holds what comes out against what was promised. It has tests only.
//
//		scripted client ── relay ── proxy ── relay ── backend(s)
//		                              │
//		                    DNS server, store, spill, clock: each can fail
//
//	  - positions_test.go cuts, resets, half-closes, stalls and slows a set of dialogues at every byte of every direction.
//	  - outage_test.go takes backends, resolver, store, disk, clock and descriptors away under load.
//	  - flood_test.go sends too much of everything.
//	  - smuggling_test.go and injection_test.go look at what reaches the backend and the log, byte by byte.
//
// The short form is part of every test run. GATEPOST_FAULT_POSITIONS sets the number of fault positions (`make test-faults`:
// 20,000 and more), GATEPOST_FAULT_SEED repeats a run whose seed was printed.
package faulttest
