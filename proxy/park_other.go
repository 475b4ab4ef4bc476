//go:build !linux

package proxy

func newParker() (parker, error) { return newThreads(), nil }
