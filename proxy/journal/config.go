package journal

import (
	"time"

	"gatepost/filters"
)

// Config is the section `journal:`.
type Config struct {
	// Path is the folder of the journal; its files can be read by the owner and the group. Default:
	// /var/lib/gatepost/journal, or with a store.path of your own that path and "-journal". `off` keeps no journal.
	Path string `yaml:"path"`
	// Keep is for how long entries are kept.
	Keep filters.Duration `yaml:"keep"`
	// Size bounds what all of it takes on disk; the oldest entries go first. A transaction takes 100 to 400 bytes.
	Size filters.Size `yaml:"size"`
	// Addresses says how mail addresses are kept: clear; keyed, with the local part replaced by a keyed hash, so that
	// `gatepost why` still finds an address that it is given; or cut, without the local part. The key is made at the first
	// start and is the file "key" in the folder.
	Addresses Addresses `yaml:"addresses" values:"clear keyed cut"`
	// Digest keeps the SHA-256 of each message that comes by SMTP, by which it can be told from others that look alike. It
	// takes some 0.6 ms of processor time for each MiB.
	Digest bool `yaml:"digest"`
	// Queue bounds the memory in which entries wait for a disk that is slow or full. What does not fit is counted, logged
	// and lost; mail never waits.
	Queue filters.Size `yaml:"queue"`
}

// DefaultPath is the folder of the journal where the store has its default, too.
const DefaultPath = "/var/lib/gatepost/journal"

// Off is the path that switches the journal off.
const Off = "off"

// Defaults returns the configuration that is in force where the file is silent.
func Defaults() Config {
	return Config{
		Keep:      filters.Duration(30 * 24 * time.Hour),
		Size:      4 << 30,
		Addresses: Clear,
		Digest:    true,
		Queue:     32 << 20,
	}
}

// Validate names every value that cannot be.
func (c *Config) Validate() error {
	var bad filters.KeyErrors
	if keep := time.Duration(c.Keep); keep < time.Hour || keep > 3660*24*time.Hour {
		bad.Add("keep", "%s is not between 1h and 3660d", c.Keep)
	}
	if c.Size < 1<<20 || c.Size > 1<<46 {
		bad.Add("size", "%s is not between 1MiB and 65536GiB", c.Size)
	}
	if c.Queue < 1<<20 || c.Queue > 1<<32 {
		bad.Add("queue", "%s is not between 1MiB and 4GiB", c.Queue)
	}
	return bad.OrNil()
}
