//go:build race

package rules

// The race detector makes sync.Pool, and so package regexp, forget at random.
func init() { poolsForget = true }
