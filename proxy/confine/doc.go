// Package confine takes rights away from the running process, for good: who breaks into it gets what it needs itself and
// nothing else.
//
//	NoDumps    memory is not written to core files, and not shown to others of the same user
//	Become     root becomes the user of the configuration, with one capability at most (capabilities(7))
//	Apply      Landlock: files and outgoing TCP, as far as a Grant names them (landlock(7))
//
// All of it holds for every thread and for every program that the process starts, the successor of `gatepost upgrade`
// included. A successor therefore has the Grant of its predecessor, however its own configuration reads: the Grant is in the
// environment, and what is missing in it is said at once (Missing) instead of failing at night. It does not confine
// itself a second time: the kernel would stack both, and has room for sixteen.
//
// Seccomp is left to the service manager: a filter of our own would have to follow what Go's runtime calls in each release.
package confine
