//go:build race

package telemetry

func init() { poolsForget = true }
