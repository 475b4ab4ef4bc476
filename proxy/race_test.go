//go:build race

package proxy

func init() { poolsForget = true }
