package admin

import (
	"crypto/tls"
	"fmt"
	"net"

	"gatepost/proxy"
)

// settings are what a reload changes of a server that goes on at its address. They are never written after they are
// published. A request that looks at them twice loads them once.
type settings struct {
	config Config
	auth   *authority  // nil: there is no password
	tls    *tls.Config // nil: there is no TLS
}

// newSettings reads the certificate. Who has signed in stays so unless the password is another.
func (s *Server) newSettings(c Config) (*settings, error) {
	next := &settings{config: c}
	if text := c.Password.Reveal(); text != "" {
		h, err := parseHash(text)
		if err != nil {
			return nil, fmt.Errorf("admin.password: %w", err)
		}
		next.auth = newAuthority(h, s.Clock)
	}
	if before := s.settings.Load(); before != nil && before.config.Password.Reveal() == c.Password.Reveal() {
		next.auth = before.auth
	}
	if c.Certificate != "" {
		config, err := proxy.ServerTLS(c.Address, c.TLS(), s.Log, s.Clock)
		if err != nil {
			return nil, fmt.Errorf("admin: %w", err)
		}
		config.NextProtos = []string{"http/1.1"}
		next.tls = config
	}
	return next, nil
}

// Prepare reads what another configuration of the same address needs; apply puts it in force, for connections and
// requests that come later.
func (s *Server) Prepare(c Config) (apply func(), err error) {
	next, err := s.newSettings(c)
	if err != nil {
		return nil, err
	}
	return func() { s.settings.Store(next) }, nil
}

// auth is who knows the password now; nil: there is none.
func (s *Server) auth() *authority { return s.settings.Load().auth }

// doorway hands out connections with TLS or without, as the settings say.
type doorway struct {
	net.Listener
	server *Server
}

// Accept implements net.Listener.
func (l doorway) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if config := l.server.settings.Load().tls; err == nil && config != nil {
		return tls.Server(c, config), nil
	}
	return c, err
}
