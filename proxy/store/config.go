package store

import (
	"time"

	"gatepost/filters"
)

// Config is the section `store:`.
type Config struct {
	// Path is the folder of the state. It is made, readable by its owner alone, if it is missing.
	Path string `yaml:"path"`
	// MaxEntries bounds how many marks are kept (about 100 bytes on disk each). Above it, those that would expire
	// soonest go first.
	MaxEntries int `yaml:"max_entries"`
	// MaxPending bounds how many changed marks wait in memory for the disk (about 300 bytes each).
	MaxPending int `yaml:"max_pending"`
	// MaxStandings bounds of how many clients' networks and domains it is kept how things went with them (about 60 bytes
	// on disk each). Above it, those of which the least is left go first.
	MaxStandings int `yaml:"max_standings"`
	// Flush is how often changed marks are written: what a crash may forget.
	Flush filters.Duration `yaml:"flush"`
	// Redis is a Redis or Valkey that several proxies share. The folder in path is still needed: each proxy falls back
	// to it while the shared store cannot be used.
	Redis Redis `yaml:"redis"`
}

// Defaults returns the configuration that is in force where the file is silent.
func Defaults() Config {
	return Config{
		Path:       "/var/lib/gatepost/state",
		MaxEntries: 5_000_000,
		MaxPending: 200_000,
		Flush:      filters.Duration(200 * time.Millisecond),
		Redis:      redisDefaults(),

		MaxStandings: 1_000_000,
	}
}

// Validate names every value that cannot be.
func (c *Config) Validate() error {
	var bad filters.KeyErrors
	if c.Path == "" {
		bad.Add("path", "a folder is missing")
	}
	if c.MaxEntries < 1000 || c.MaxEntries > 1_000_000_000 {
		bad.Add("max_entries", "%d is not between 1000 and 1000000000", c.MaxEntries)
	}
	if c.MaxPending < 1000 || c.MaxPending > 10_000_000 {
		bad.Add("max_pending", "%d is not between 1000 and 10000000", c.MaxPending)
	}
	if c.MaxStandings < 1000 || c.MaxStandings > 100_000_000 {
		bad.Add("max_standings", "%d is not between 1000 and 100000000", c.MaxStandings)
	}
	if flush := time.Duration(c.Flush); flush < 10*time.Millisecond || flush > 900*time.Millisecond {
		bad.Add("flush", "%s is not between 10ms and 900ms; at most the last second may be forgotten", c.Flush)
	}
	c.Redis.validate(&bad)
	return bad.OrNil()
}
