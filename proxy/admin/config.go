package admin

import (
	"net"
	"net/netip"

	"gatepost/filters"
	"gatepost/proxy"
	"gatepost/proxy/sockets"
)

// Config is the section `admin:`. A lone value instead of a mapping is the address.
type Config struct {
	// Address to listen on, host:port, for metrics, health and the admin pages; off: there is none. On loopback addresses
	// everybody on the machine may come in; others need certificate and password.
	Address string `yaml:"address"`
	// Certificate is the file with the certificate chain in PEM; empty: there is no TLS.
	Certificate string `yaml:"certificate"`
	// Key is the file with the certificate's private key in PEM; empty: it is in the file of the certificate.
	Key string `yaml:"key"`
	// The password's hash, as `gatepost admin password` prints it. Empty: there is none.
	Password filters.Secret `yaml:"password"`
}

// off is the address of a server that is not wanted.
const off = "off"

// Default is port 8025 on the loopback address.
func Default() Config { return Config{Address: "127.0.0.1:8025"} }

// UnmarshalScalar takes `admin: host:port` and `admin: off`.
func (c *Config) UnmarshalScalar(text string) error {
	c.Address = text
	return nil
}

// Enabled tells whether there is a server at all.
func (c *Config) Enabled() bool { return c.Address != off }

// Socket describes the socket.
func (c *Config) Socket() sockets.Want {
	return sockets.Want{Use: sockets.Admin, Name: c.Address, Network: "tcp", Address: c.Address}
}

// TLS is the certificate as other listeners have it.
func (c *Config) TLS() proxy.Certificate {
	return proxy.Certificate{Certificate: c.Certificate, Key: c.Key}
}

// Validate answers with filters.KeyErrors.
func (c *Config) Validate() error {
	if !c.Enabled() {
		return nil
	}
	var errs filters.KeyErrors
	host, port, err := net.SplitHostPort(c.Address)
	if err != nil || port == "" {
		errs.Add("address", "%q is not host:port, such as 127.0.0.1:8025, and not off", c.Address)
		return errs.OrNil()
	}
	if c.Key != "" && c.Certificate == "" {
		errs.Add("key", "a key without a certificate: set certificate too")
	}
	if hash := c.Password.Reveal(); hash != "" {
		if _, err := parseHash(hash); err != nil {
			errs.Add("password", "%v", err)
		}
	}
	if !isLoopback(host) {
		if c.Certificate == "" {
			errs.Add("address", "%s can be reached from other machines: set certificate too, or listen on 127.0.0.1", c.Address)
		}
		if c.Password.Reveal() == "" {
			errs.Add("address", "%s can be reached from other machines: set password too (`gatepost admin password` makes it), or listen on 127.0.0.1", c.Address)
		}
	}
	return errs.OrNil()
}

// isLoopback tells hosts that lead nowhere but to this machine. RFC 6761, 6.3: so does localhost.
func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback() || host == "localhost"
}
