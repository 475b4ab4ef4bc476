package engine

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/redis/rueidis"

	"gatepost/proxy/store"
)

const (
	dialTimeout  = time.Second
	writeTimeout = 2 * time.Second // a connection that does not answer for as long is given up
	cacheBytes   = 16 << 20        // of passes known here, per connection
	cacheTTL     = time.Hour       // how long one of them is believed if nothing is heard of it
	bufferBytes  = 64 << 10        // per connection and direction
	refresh      = 2 * time.Second // how often Sentinels are asked who the master is, beside what they tell
)

// options are what rueidis is told.
func options(c store.Redis) (rueidis.ClientOption, error) {
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: time.Second}
	o := rueidis.ClientOption{
		InitAddress:         c.Addresses,
		SelectDB:            c.Database,
		ClientName:          "gatepost",
		Dialer:              dialer,
		ConnWriteTimeout:    writeTimeout,
		CacheSizeEachConn:   cacheBytes,
		ReadBufferEachConn:  bufferBytes,
		WriteBufferEachConn: bufferBytes,
		PipelineMultiplex:   1, // two connections a server
		ForceSingleClient:   !c.Cluster && c.Sentinel == "",
		ClusterOption:       rueidis.ClusterOption{ShardsRefreshInterval: refresh},
	}
	if c.Sentinel == "" {
		o.AuthCredentialsFn = credentials(c.Username, c.PasswordFile)
	} else {
		// Here rueidis would use AuthCredentialsFn for the Sentinels too, whose password is another one.
		login, err := credentials(c.Username, c.PasswordFile).now()
		if err != nil {
			return o, err
		}
		o.Username, o.Password = login.Username, login.Password
		o.Sentinel = rueidis.SentinelOption{MasterSet: c.Sentinel, Dialer: dialer, TopologyRefreshInterval: refresh}
		if login, err = credentials("", c.SentinelPasswordFile).now(); err != nil {
			return o, err
		}
		o.Sentinel.Password = login.Password
	}
	if !c.TLS {
		return o, nil
	}
	config, err := tlsConfig(c)
	o.TLSConfig, o.Sentinel.TLSConfig = config, config
	return o, err
}

// login says who we are. It is asked anew for each connection, so that a password can be changed.
type login func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error)

// credentials is nil without a file: there is no AUTH then.
func credentials(username, file string) login {
	if file == "" {
		return nil
	}
	return func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
		return readLogin(username, file)
	}
}

func (l login) now() (rueidis.AuthCredentials, error) {
	if l == nil {
		return rueidis.AuthCredentials{}, nil
	}
	return l(rueidis.AuthCredentialsContext{})
}

func readLogin(username, file string) (rueidis.AuthCredentials, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return rueidis.AuthCredentials{}, fmt.Errorf("the store's password: %w", err)
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 {
		return rueidis.AuthCredentials{}, fmt.Errorf("the store's password: the first line of %s is empty", file)
	}
	return rueidis.AuthCredentials{Username: username, Password: string(line)}, nil
}

func tlsConfig(c store.Redis) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("the store's CA: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("the store's CA: %s has no certificate (PEM)", c.CA)
		}
	}
	if c.Certificate != "" {
		own, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return nil, fmt.Errorf("the certificate for the store: %w", err)
		}
		config.Certificates = []tls.Certificate{own}
	}
	return config, nil
}
