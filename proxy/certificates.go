package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/filters"
)

// Certificate is a certificate chain and its key, in PEM.
type Certificate struct {
	// Certificate is the file with the certificate chain.
	Certificate string `yaml:"certificate"`
	// Key is the file with the private key; empty: it is in the file of the certificate.
	Key string `yaml:"key"`
}

// TLSVersion is a version of TLS: 1.0, 1.1, 1.2 or 1.3. The zero value stands for 1.2.
type TLSVersion uint16

var tlsVersions = map[TLSVersion]string{tls.VersionTLS10: "1.0", tls.VersionTLS11: "1.1", tls.VersionTLS12: "1.2", tls.VersionTLS13: "1.3"}

// MarshalText writes what UnmarshalText reads.
func (v TLSVersion) MarshalText() ([]byte, error) {
	if v == 0 {
		v = tls.VersionTLS12
	}
	return []byte(tlsVersions[v]), nil
}

// UnmarshalText reads "1.2".
func (v *TLSVersion) UnmarshalText(text []byte) error {
	for version, name := range tlsVersions {
		if name == string(text) {
			*v = version
			return nil
		}
	}
	return fmt.Errorf("%q is no version of TLS: 1.0, 1.1, 1.2 or 1.3", text)
}

// certificates is what a listener shows its clients. Files that have changed are read again, at most once a minute, by
// the handshake that comes then; what cannot be used is left alone, and the old ones serve on (RFC 8460, 8461, 7672:
// others check names and dates, and a renewal must not need a restart). Safe for concurrent use.
type certificates struct {
	listen *Listen
	log    *slog.Logger
	clock  filters.Clock

	loaded  atomic.Pointer[identity]
	checked atomic.Pointer[time.Time] // when the files were looked at last

	mu    sync.Mutex // guards tried; held while files are read
	tried []stamp    // the files as they were when they were read last, successfully or not
}

// identity is what was read from the files. Never written after it is published.
type identity struct {
	config  *tls.Config
	clients *x509.CertPool // who signs clients' certificates; nil: none is asked for
}

// stamp tells whether a file has changed.
type stamp struct {
	name     string
	size     int64
	modified time.Time
}

// checkInterval is how often the files are looked at.
const checkInterval = time.Minute

// newCertificates reads a listener's files. It is nil where there are none.
func newCertificates(l *Listen, log *slog.Logger, clock filters.Clock) (*certificates, error) {
	if len(l.pairs()) == 0 {
		return nil, nil
	}
	c := &certificates{listen: l, log: log, clock: clock}
	c.tried = c.stamps()
	now := clock.Now()
	c.checked.Store(&now)
	loaded, err := c.load()
	if err != nil {
		return nil, err
	}
	c.loaded.Store(loaded)
	return c, nil
}

// current is what the next handshake uses.
func (c *certificates) current() *identity {
	last := c.checked.Load()
	if now := c.clock.Now(); now.Sub(*last).Abs() >= checkInterval && c.checked.CompareAndSwap(last, &now) {
		c.renew()
	}
	return c.loaded.Load()
}

// renew reads files that have changed.
func (c *certificates) renew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamps := c.stamps()
	if equalStamps(stamps, c.tried) {
		return
	}
	c.tried = stamps
	loaded, err := c.load()
	if err != nil {
		c.log.Error("a certificate has changed and cannot be used; the old one serves on", "listen", c.listen.Address, "error", err)
		return
	}
	c.loaded.Store(loaded)
	c.log.Info("certificates have changed and are in use", "listen", c.listen.Address)
}

func equalStamps(a, b []stamp) bool {
	for i := range a {
		if a[i].name != b[i].name || a[i].size != b[i].size || !a[i].modified.Equal(b[i].modified) {
			return false
		}
	}
	return true
}

// stamps looks at the files; one that cannot be looked at has no size and no time.
func (c *certificates) stamps() []stamp {
	var list []stamp
	for _, name := range c.listen.tlsFiles() {
		s := stamp{name: name}
		if info, err := os.Stat(name); err == nil {
			s.size, s.modified = info.Size(), info.ModTime()
		}
		list = append(list, s)
	}
	return list
}

// load reads the files. Which certificate a client gets is for crypto/tls to find: the first that fits the name it asks
// for and the algorithms it knows, else the first.
func (c *certificates) load() (*identity, error) {
	i := &identity{config: &tls.Config{
		MinVersion: uint16(c.listen.MinTLS),
		// A ticket is a secret that outlives the session, for a client that rarely comes back.
		SessionTicketsDisabled: true,
	}}
	for _, p := range c.listen.pairs() {
		pair, err := tls.LoadX509KeyPair(p.Certificate, p.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", p.Certificate, err)
		}
		i.config.Certificates = append(i.config.Certificates, pair)
	}
	if file := c.listen.ClientCA; file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("client_ca: %w", err)
		}
		i.clients = x509.NewCertPool()
		if !i.clients.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("client_ca: %s: %w", file, errors.New("no certificate in PEM form"))
		}
		// A certificate that nobody vouches for is no reason to end the handshake: mail servers show what they have.
		i.config.ClientAuth = tls.RequestClientCert
	}
	return i, nil
}

// subject is the subject of the client's certificate if one of client_ca vouches for it, else empty.
func (i *identity) subject(state tls.ConnectionState) string {
	if i.clients == nil || len(state.PeerCertificates) == 0 {
		return ""
	}
	options := x509.VerifyOptions{Roots: i.clients, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, between := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(between)
	}
	if _, err := state.PeerCertificates[0].Verify(options); err != nil {
		return ""
	}
	return state.PeerCertificates[0].Subject.String()
}

// ServerTLS is what a server of another protocol shows its clients. address names it in the log; the files are looked
// after as those of listeners are.
func ServerTLS(address string, c Certificate, log *slog.Logger, clock filters.Clock) (*tls.Config, error) {
	files, err := newCertificates(&Listen{Address: address, Certificate: c.Certificate, Key: c.Key}, log, clock)
	if err != nil {
		return nil, err
	}
	if files == nil {
		return nil, errors.New("there is no certificate")
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return files.current().config, nil },
	}, nil
}
