package milter

import (
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatepost/filters"
)

// Config is one entry of the list.
type Config struct {
	// What rules call it: its facts are milter.NAME.action and so on. It is made of a-z, 0-9 and _.
	Name string `yaml:"name"`
	// Where it listens: inet:127.0.0.1:11332, inet:11332@127.0.0.1, inet:[::1]:11332 or unix:/run/opendkim.sock.
	Address Address `yaml:"address"`
	// What it may change: headers, body, recipients, sender. `[]` for nothing. What it wants changed beyond that is a fact
	// and is not done.
	Edits []string `yaml:"edits"`
	// enforce: what it may change is changed. observe: it is a fact alone, to see what would come of it.
	Mode string `yaml:"mode" values:"enforce observe"`
	// The name of a milter above in the list. This one is given the message as that one has changed it, and waits for it;
	// milters that name none are asked side by side.
	After string `yaml:"after"`
	// For how long it may say nothing when an answer is due. It may ask for more time (SMFIR_PROGRESS), up to `timeout`
	// after the end of the message.
	Silence filters.Duration `yaml:"silence"`
	// How many connections to it there may be at once.
	Connections int `yaml:"connections"`
	// After so many failures in a row it is not asked for a while.
	Failures int `yaml:"failures"`
	// For how long it is not asked then.
	Pause filters.Duration `yaml:"pause"`
	// For whom a connection to it is used again. session: for further messages of the same client's connection. always: for
	// other clients, too, one after the other (SMFIC_QUIT_NC); a milter that turns out not to go on then gets a new one each.
	Reuse string `yaml:"reuse" values:"session always"`
	// The macro {daemon_name}, by which milters tell services apart. Default: our hostname.
	DaemonName string `yaml:"daemon_name"`
}

// What a milter may be allowed to change.
const (
	editHeaders    = "headers"
	editBody       = "body"
	editRecipients = "recipients"
	editSender     = "sender"
)

const (
	modeEnforce = "enforce"
	modeObserve = "observe"
)

// For whom a connection is used again.
const (
	reuseSession = "session"
	reuseAlways  = "always"
)

// Defaults returns an entry of which nothing is configured.
func Defaults() Config {
	return Config{
		Edits:       []string{editHeaders},
		Mode:        modeEnforce,
		Reuse:       reuseSession,
		Silence:     filters.Duration(20 * time.Second),
		Connections: 50,
		Failures:    5,
		Pause:       filters.Duration(30 * time.Second),
	}
}

// SetExample names a milter, for the manual.
func (c *Config) SetExample() {
	c.Name, c.Address = "rspamd", Address{"tcp", "127.0.0.1:11332"}
}

// InstanceName implements filters.Named.
func (c *Config) InstanceName() string { return c.Name }

// Follows implements filters.Named.
func (c *Config) Follows() []string {
	if c.After == "" {
		return nil
	}
	return []string{c.After}
}

// DefaultTimeout is for all that is left when the message has arrived: milters look up names, and ask programs of their
// own. It stays below the 45 s that the end of data may take.
func (c *Config) DefaultTimeout() filters.Duration { return filters.Duration(30 * time.Second) }

// Validate checks the entry.
func (c *Config) Validate() error {
	var errs filters.KeyErrors
	if c.Address.Network == "" {
		errs.Add("address", "is missing: inet:HOST:PORT or unix:/PATH")
	}
	for _, edit := range c.Edits {
		switch edit {
		case editHeaders, editBody, editRecipients, editSender:
		default:
			errs.Add("edits", "%q is none of %s, %s, %s and %s", edit, editHeaders, editBody, editRecipients, editSender)
		}
	}
	if c.Mode != modeEnforce && c.Mode != modeObserve {
		errs.Add("mode", "%q is neither %s nor %s", c.Mode, modeEnforce, modeObserve)
	}
	if c.Reuse != reuseSession && c.Reuse != reuseAlways {
		errs.Add("reuse", "%q is neither %s nor %s", c.Reuse, reuseSession, reuseAlways)
	}
	if d := time.Duration(c.Silence); d < 100*time.Millisecond || d > 10*time.Minute {
		errs.Add("silence", "must be between 100ms and 10m")
	}
	if c.Connections < 1 || c.Connections > 10000 {
		errs.Add("connections", "must be between 1 and 10000")
	}
	if c.Failures < 1 {
		errs.Add("failures", "must be at least 1")
	}
	if d := time.Duration(c.Pause); d < 0 || d > 24*time.Hour {
		errs.Add("pause", "must be between 0s and 24h")
	}
	if len(c.DaemonName) > 100 || strings.ContainsFunc(c.DaemonName, func(r rune) bool { return r <= ' ' || r > '~' }) {
		errs.Add("daemon_name", "must be at most 100 printable ASCII characters without blanks")
	}
	return errs.OrNil()
}

func (c *Config) allows(edit string) bool { return slices.Contains(c.Edits, edit) }

// AddsRecipients tells whether mail may go to others than the client has named.
func (c *Config) AddsRecipients() bool { return c.Mode == modeEnforce && c.allows(editRecipients) }

// Address is where a milter listens.
type Address struct{ Network, Address string }

// UnmarshalText reads inet:HOST:PORT, inet:PORT@HOST (also inet6) or unix:/PATH (also local).
func (a *Address) UnmarshalText(text []byte) error {
	kind, rest, _ := strings.Cut(string(text), ":")
	switch kind {
	case "unix", "local":
		if !strings.HasPrefix(rest, "/") {
			return errors.New("the name of a UNIX socket begins with a slash: unix:/run/milter.sock")
		}
		*a = Address{"unix", rest}
		return nil
	case "inet", "inet6":
		host, port, err := net.SplitHostPort(rest)
		if p, h, found := strings.Cut(rest, "@"); found {
			host, port, err = strings.Trim(h, "[]"), p, nil
		}
		if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n == 0 || host == "" {
			return errors.New("a milter's address looks like this: inet:127.0.0.1:11332 or unix:/run/milter.sock")
		}
		*a = Address{"tcp", net.JoinHostPort(host, port)}
		return nil
	}
	return errors.New("a milter's address looks like this: inet:127.0.0.1:11332 or unix:/run/milter.sock")
}

// MarshalText writes it as UnmarshalText reads it.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

func (a Address) String() string {
	switch a.Network {
	case "":
		return ""
	case "tcp":
		return "inet:" + a.Address
	}
	return a.Network + ":" + a.Address
}
