package reputation

import (
	"fmt"
	"strings"
	"time"

	"gatepost/filters"
)

// Config is the section `reputation:`.
type Config struct {
	// Traps are spam traps: addresses that nobody has or had for long, or whole domains that get no mail. Who writes to them
	// has them from where only spammers look. Tell nobody which they are.
	Traps []string `yaml:"traps"`
	// HalfLife is how long it takes until what happened counts half; 1d to 365d.
	HalfLife filters.Duration `yaml:"half_life"`
	// Minimum is of how many messages something must be known before there is a score.
	Minimum int `yaml:"minimum"`
	// IPv4Prefix is the length of the client networks that count as one, in bits.
	IPv4Prefix int `yaml:"ipv4_prefix"`
	// IPv6Prefix is the same for IPv6.
	IPv6Prefix int `yaml:"ipv6_prefix"`
	// KeepHits is how long hits on traps are listed, counted from the latest.
	KeepHits filters.Duration `yaml:"keep_hits"`
}

// Defaults returns the configuration that is in force where the file is silent.
func Defaults() Config {
	return Config{
		HalfLife:   filters.Duration(30 * 24 * time.Hour),
		Minimum:    5,
		IPv4Prefix: 24,
		IPv6Prefix: 64,
		KeepHits:   filters.Duration(90 * 24 * time.Hour),
	}
}

const maxTraps = 100_000

// Validate names every value that cannot be.
func (c *Config) Validate() error {
	var bad filters.KeyErrors
	const day = 24 * time.Hour
	if half := time.Duration(c.HalfLife); half < day || half > 365*day {
		bad.Add("half_life", "%s is not between 1d and 365d", c.HalfLife)
	}
	if keep := time.Duration(c.KeepHits); keep < day || keep > 3650*day {
		bad.Add("keep_hits", "%s is not between 1d and 3650d", c.KeepHits)
	}
	if c.Minimum < 1 || c.Minimum > 1_000_000 {
		bad.Add("minimum", "%d is not between 1 and 1000000", c.Minimum)
	}
	if c.IPv4Prefix < 8 || c.IPv4Prefix > 32 {
		bad.Add("ipv4_prefix", "%d is not between 8 and 32", c.IPv4Prefix)
	}
	if c.IPv6Prefix < 16 || c.IPv6Prefix > 128 {
		bad.Add("ipv6_prefix", "%d is not between 16 and 128", c.IPv6Prefix)
	}
	if len(c.Traps) > maxTraps {
		bad.Add("traps", "%d are more than %d", len(c.Traps), maxTraps)
	}
	for i, trap := range c.Traps {
		if why := notATrap(trap); why != "" {
			bad.Add(fmt.Sprintf("traps[%d]", i), "%q %s", trap, why)
		}
	}
	return bad.OrNil()
}

// notATrap says what is wrong with an entry. Everybody may write to the postmaster (RFC 5321, 4.5.1) and to abuse (RFC
// 2142), so they can be none.
func notATrap(trap string) string {
	local, domain := filters.SplitAddress(trap)
	if domain == "" {
		local, domain = "trap", local
	}
	if local = strings.ToLower(local); local == "postmaster" || local == "abuse" {
		return "must take everybody's mail"
	}
	if _, ok := filters.ASCIIName(domain); !ok || local == "" || !strings.Contains(domain, ".") || len(trap) > 320 || strings.ContainsAny(trap, "|\x00 \r\n") {
		return "is neither an address nor a domain"
	}
	return ""
}
