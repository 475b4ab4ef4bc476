package resolver

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"gatepost/filters"
)

// Config is the section `resolver:`.
type Config struct {
	// Addresses of recursive DNS servers, with or without a port, tried in order ("127.0.0.1:53"). Empty: those of
	// /etc/resolv.conf. Block lists answer a resolver of your own, but often not a public one.
	Servers []string `yaml:"servers"`
	// How long one question may take in all, every server and repetition included.
	Timeout filters.Duration `yaml:"timeout"`
	// How long one server is waited for before the question is repeated.
	Attempt filters.Duration `yaml:"attempt"`
	// How many answers are kept in memory. An answer of more than 512 bytes counts as several.
	Cache int `yaml:"cache"`
	// How many questions may be on their way at the same time; more wait.
	Inflight int `yaml:"inflight"`
}

// Defaults is what holds where the configuration says nothing.
func Defaults() Config {
	return Config{
		Timeout:  filters.Duration(5 * time.Second),
		Attempt:  filters.Duration(1500 * time.Millisecond),
		Cache:    100_000,
		Inflight: 1000,
	}
}

const resolvConf = "/etc/resolv.conf"

// maxServers bounds how many are asked.
const maxServers = 16

// Validate reports every mistake as [filters.KeyErrors].
func (c *Config) Validate() error {
	var errs filters.KeyErrors
	for i, s := range c.Servers {
		if _, err := serverAddress(s); err != nil {
			errs.Add(fmt.Sprintf("servers[%d]", i), "%w", err)
		}
	}
	if len(c.Servers) > maxServers {
		errs.Add("servers", "are more than %d; a few near ones are enough", maxServers)
	}
	if t := time.Duration(c.Timeout); t < 100*time.Millisecond || t > time.Minute {
		errs.Add("timeout", "must be between 100ms and 1m, not %s", c.Timeout)
	}
	if a := time.Duration(c.Attempt); a < 50*time.Millisecond || a > time.Duration(c.Timeout) {
		errs.Add("attempt", "must be between 50ms and timeout (%s), not %s", c.Timeout, c.Attempt)
	}
	if c.Cache < 1 || c.Cache > 10_000_000 {
		errs.Add("cache", "must be between 1 and 10000000, not %d", c.Cache)
	}
	if c.Inflight < 1 || c.Inflight > 50_000 {
		errs.Add("inflight", "must be between 1 and 50000, not %d", c.Inflight)
	}
	return errs.OrNil()
}

// serverAddress takes an address with or without a port.
func serverAddress(s string) (netip.AddrPort, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil && ap.Port() != 0 {
		return ap, nil
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(addr, 53), nil
	}
	return netip.AddrPort{}, fmt.Errorf("%q is not an address such as 127.0.0.1, 127.0.0.1:53 or [::1]:53", s)
}

// serverAddresses resolves the configuration to addresses. Like the C library it falls back to this machine.
func serverAddresses(c Config, resolvConf string) ([]netip.AddrPort, error) {
	names := c.Servers
	if len(names) == 0 {
		system, err := dns.ClientConfigFromFile(resolvConf)
		if err != nil {
			return nil, fmt.Errorf("resolver: no servers are configured and %w", err)
		}
		names = system.Servers[:min(len(system.Servers), maxServers)]
	}
	var servers []netip.AddrPort
	for _, name := range names {
		ap, err := serverAddress(name)
		if err != nil {
			return nil, fmt.Errorf("resolver: %w", err)
		}
		servers = append(servers, ap)
	}
	if len(servers) == 0 {
		servers = append(servers, netip.MustParseAddrPort("127.0.0.1:53"))
	}
	return servers, nil
}
