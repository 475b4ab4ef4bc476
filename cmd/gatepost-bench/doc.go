// Command gatepost-bench measures all that is promised about Gatepost's speed and memory, on loopback, beside the bare
// sink and HAProxy in TCP mode:
//
//	load ──────────────────────────▶ sink      direct
//	load ──▶ haproxy ──────────────▶ sink      haproxy
//	load ──▶ gatepost, no rules ───▶ sink      relay, with connections to the sink used again (XCLIENT)
//	load ──▶ gatepost, no rules ───▶ sink      fresh, with a new connection for each client
//	load ──▶ gatepost, no rules ───▶ sink      eager and eager-fresh, the same with hand-over and envelope in one segment
//	load ──▶ gatepost, no rules ───▶ sink without CHUNKING      no-chunking, as eager, for clients that pipeline
//	load ──▶ gatepost, all filters ▶ sink      full and eager-full      ──▶ DNS server with a small zone
//	load ──▶ gatepost, all filters ▶ sink      no-journal, as full without that
//	load ──▶ nginx ────────────────▶ sink      nginx, as a mail proxy
//
// Machines are noisy, so absolute figures mean little. For each scenario all peers take short turns, several rounds of
// them in rotating order; a ratio is taken within a round, and the table shows the median of the ratios. Load generator,
// sink and DNS server are in this process; every proxy is a process of its own, whose CPU time and memory /proc tells.
// What is not installed is left out, and said so.
//
// rounds_linux.go is the run; peers_linux.go lists the peers, scenarios.go what is played against them. Beside them:
// journal_linux.go (what the journal costs at a fixed pace), refusals_linux.go (clients that are sent away),
// calls_linux.go (system calls, by strace), memory_linux.go and waiting_linux.go (memory), operations_linux.go (reloads and
// starts), growth_linux.go (what more of something costs).
// findings.go puts all beside its goal, report_linux.go writes the tables.
//
// With -flood it sends Gatepost too much of everything instead (flood_linux.go, floods_linux.go), and tells what that did
// to its memory and to others.
package main
