package store

import (
	"net"
	"regexp"
	"strconv"
	"time"

	"gatepost/filters"
)

// Redis is the section `store.redis:`.
type Redis struct {
	// Addresses are "host:port": of the server, of some nodes of a cluster, or of the Sentinels. Empty: nothing is shared.
	Addresses []string `yaml:"addresses"`
	// Cluster tells that the addresses are nodes of a Redis or Valkey Cluster.
	Cluster bool `yaml:"cluster"`
	// Sentinel is the name of the master that the Sentinels at the addresses watch. Empty: they are no Sentinels.
	Sentinel string `yaml:"sentinel"`
	// Database is the number of the database (SELECT). A cluster has only 0.
	Database int `yaml:"database"`
	// Prefix begins every key: letters, digits, "-", "_" and ".". Two sites that share a server need two of them.
	Prefix string `yaml:"prefix"`
	// Timeout is how long a decision waits for the shared store before this proxy decides by its own memory.
	Timeout filters.Duration `yaml:"timeout"`
	// Username is for AUTH with an ACL. Empty: the default user.
	Username string `yaml:"username"`
	// PasswordFile is a file with the password on its first line; it is read again for every connection.
	PasswordFile string `yaml:"password_file"`
	// SentinelPasswordFile is the same for the Sentinels.
	SentinelPasswordFile string `yaml:"sentinel_password_file"`
	// TLS encrypts the connections and verifies the servers' certificates.
	TLS bool `yaml:"tls"`
	// CA is a file with the certificates (PEM) that are trusted. Empty: those of the system.
	CA string `yaml:"ca"`
	// Certificate is a file with our certificate chain (PEM), where the server asks for one (tls-auth-clients).
	Certificate string `yaml:"certificate"`
	// Key is a file with its private key (PEM).
	Key string `yaml:"key"`
	// ServerName is the name that the servers' certificates must have. Empty: the host of the address.
	ServerName string `yaml:"server_name"`
}

// Enabled tells whether there is a shared store.
func (r *Redis) Enabled() bool { return len(r.Addresses) > 0 }

func redisDefaults() Redis {
	return Redis{Prefix: "gp", Timeout: filters.Duration(80 * time.Millisecond)}
}

var redisPrefix = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,32}$`)

func (r *Redis) validate(bad *filters.KeyErrors) {
	for i, address := range r.Addresses {
		if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
			bad.Add("redis.addresses["+strconv.Itoa(i)+"]", `%q is not "host:port"`, address)
		}
	}
	if len(r.Addresses) > 1 && !r.Cluster && r.Sentinel == "" {
		bad.Add("redis.addresses", "several need `cluster: true` or `sentinel: NAME`; independent servers cannot be one memory")
	}
	if r.Cluster && r.Sentinel != "" {
		bad.Add("redis.sentinel", "a cluster does without Sentinels: leave one of both out")
	}
	if r.Database < 0 || r.Database > 65535 || r.Cluster && r.Database != 0 {
		bad.Add("redis.database", "%d is not between 0 and 65535 (in a cluster: 0)", r.Database)
	}
	if !redisPrefix.MatchString(r.Prefix) {
		bad.Add("redis.prefix", "%q is not 1 to 32 letters, digits, -, _ and .", r.Prefix)
	}
	if timeout := time.Duration(r.Timeout); timeout < 5*time.Millisecond || timeout > 95*time.Millisecond {
		bad.Add("redis.timeout", "%s is not between 5ms and 95ms: nobody waits for a store longer than 100ms", r.Timeout)
	}
	if !r.TLS && (r.CA != "" || r.Certificate != "" || r.Key != "" || r.ServerName != "") {
		bad.Add("redis.tls", "ca, certificate, key and server_name mean nothing without `tls: true`")
	}
	if (r.Certificate == "") != (r.Key == "") {
		bad.Add("redis.key", "certificate and key belong together")
	}
}

// Files returns pointers to the names of files, to be made absolute.
func (r *Redis) Files() []*string {
	return []*string{&r.PasswordFile, &r.SentinelPasswordFile, &r.CA, &r.Certificate, &r.Key}
}
