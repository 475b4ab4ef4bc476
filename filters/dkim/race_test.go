//go:build race

package dkim

func init() { poolsForget = true }
