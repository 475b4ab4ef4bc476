package quarantine

import (
	"path/filepath"
	"time"

	"gatepost/filters"
)

// Config is the section `quarantine:`.
type Config struct {
	// Path is the folder, readable by its owner alone. Default: the folder "quarantine" in store.path.
	Path string `yaml:"path"`
	// Size bounds what all messages take on disk. A message for which there is no room is answered 452 4.3.1: nothing is
	// removed to make room. Copies of what was refused (keep: copy) are only kept up to 80 % of it.
	Size filters.Size `yaml:"size"`
	// Keep is for how long a message is kept; then it is removed.
	Keep filters.Duration `yaml:"keep"`
	// Warn is how long before that the log tells that messages are going to be removed. None is removed that was not told of
	// this long before: if the process did not run then, or has been started anew since, they stay for longer.
	Warn filters.Duration `yaml:"warn"`
}

// Folder is the name of the default folder in that of the store.
const Folder = "quarantine"

// Defaults returns the configuration that is in force where the file is silent.
func Defaults() Config {
	return Config{Size: 2 << 30, Keep: filters.Duration(30 * 24 * time.Hour), Warn: filters.Duration(24 * time.Hour)}
}

// Validate names every value that cannot be.
func (c *Config) Validate() error {
	var bad filters.KeyErrors
	if c.Size < 1<<20 || c.Size > 1<<46 {
		bad.Add("size", "%s is not between 1MiB and 65536GiB", c.Size)
	}
	if keep := time.Duration(c.Keep); keep < time.Hour || keep > 3660*24*time.Hour {
		bad.Add("keep", "%s is not between 1h and 3660d", c.Keep)
	}
	if warn := time.Duration(c.Warn); warn < 10*time.Minute || warn > time.Duration(c.Keep) {
		bad.Add("warn", "%s is not between 10m and keep, %s", c.Warn, c.Keep)
	}
	return bad.OrNil()
}

// Names of folders and files.
const (
	tmpFolder     = "tmp"     // what is being written
	newFolder     = "new"     // messages
	aboutFolder   = "about"   // what is known of them, a file each
	damagedFolder = "damaged" // what was found at a start and cannot be used
	aboutSuffix   = ".json"
	lockName      = "LOCK"
)

// File is where a message is.
func (c *Config) File(id string) string { return filepath.Join(c.Path, newFolder, id) }

func (c *Config) about(id string) string { return filepath.Join(c.Path, aboutFolder, id+aboutSuffix) }

func (c *Config) temporary(name string) string { return filepath.Join(c.Path, tmpFolder, name) }
