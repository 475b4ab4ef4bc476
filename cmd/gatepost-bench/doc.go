// Command gatepost-bench measures Gatepost beside the bare sink and HAProxy in TCP mode, all in one run on loopback:
//
//	load ──────────────────────────▶ sink      direct
//	load ──▶ haproxy ──────────────▶ sink      haproxy
//	load ──▶ gatepost, no rules ───▶ sink      relay
//	load ──▶ gatepost, all filters ▶ sink      full      ──▶ DNS server with a small zone
//
// Machines are noisy, so absolute figures mean little. For each scenario all peers take short turns, several rounds of
// them in rotating order; a ratio is taken within a round, and the table shows the median of the ratios. Load generator,
// sink and DNS server are in this process; every proxy is a process of its own, whose CPU time and memory /proc tells.
//
// rounds_linux.go is the run; peers_linux.go lists the peers, scenarios.go what is played against them, memory_linux.go
// what is measured beside speed, report.go the tables.
//
// With -flood it sends Gatepost too much of everything instead (flood_linux.go, floods_linux.go), and tells what that did
// to its memory and to others.
package main
