//go:build unix && !linux

package confine

// NoDumps keeps memory, with mail and passwords in it, out of core files.
func NoDumps() error { return noCore() }
