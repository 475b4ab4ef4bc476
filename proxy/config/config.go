// Package config reads Gatepost's configuration file: it puts the file's keys over the defaults, checks all that can
// be checked without the network, and says everything that is wrong at once, each mistake with its place.
//
// The sections belong to the packages that use them: each declares a struct with `yaml` tags, whose comments are the
// manual (docs/configuration.md is made from them), and a Validate method.
package config

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy"
	"gatepost/proxy/backend"
	"gatepost/proxy/resolver"
	"gatepost/proxy/store"
	"gatepost/proxy/telemetry"
	"gatepost/rules"
)

// Config is the configuration in force: the file's keys over the defaults.
type Config struct {
	// The name of this mail exchanger: in the greeting, towards the backend and as the authserv-id of
	// Authentication-Results. Default: the machine's name.
	Hostname string `yaml:"hostname"`
	// What mail is taken for: domains, or ".example.org" for everything below one. Recipients elsewhere are refused with
	// 550 5.7.1 unless the client is trusted. Empty: the backend alone decides, which Gatepost puts to the test before it
	// answers the first RCPT.
	Domains []string `yaml:"domains"`
	// Networks whose clients pass all rules: own relays, backup mail exchangers, monitors.
	Trusted []netip.Prefix `yaml:"trusted"`
	// Where a refused sender finds help; a URL or an address that is added to our own replies.
	Contact string `yaml:"contact"`
	// Where clients are served.
	Listen []proxy.Listen `yaml:"listen"`
	// The mail server behind Gatepost. `backend: host:port` is enough.
	Backend backend.Config `yaml:"backend"`
	// How the DNS is asked.
	Resolver resolver.Config `yaml:"resolver"`
	// What is remembered: greylisting, known clients.
	Store store.Config `yaml:"store"`
	// Bounds on what one client, and all of them, may use.
	Limits proxy.Limits `yaml:"limits"`
	// What is done with bare CR, bare LF and NUL in messages: normalize or strict.
	LineEndings proxy.LineEndings `yaml:"line_endings"`
	// The log on standard error.
	Log telemetry.Config `yaml:"log"`
	// The folder that relative names of list files in rules mean. Default: the folder "lists" beside this file.
	Lists string `yaml:"lists"`

	// Filters is every filter's configuration by name.
	Filters map[string]policy.FilterConfig `yaml:"-"`
	// Rules is the list under `rules:`, or the rules that come with Gatepost.
	Rules []rules.Definition `yaml:"-"`

	doc *document
}

// later are the sections of releases to come: named in the design, so that a file that has them loads, but said to be
// without effect.
var later = map[string]string{
	"journal": "this release keeps no journal; decisions are in the log",
	"admin":   "this release has no admin page",
}

// Default is the configuration of an empty file.
func Default(specs []filters.Spec) *Config {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "localhost"
	}
	return &Config{
		Hostname: hostname,
		Listen:   proxy.DefaultListen(),
		Backend:  backend.Default(),
		Resolver: resolver.Defaults(),
		Store:    store.Defaults(),
		Limits:   proxy.DefaultLimits(),
		Log:      telemetry.Default(),
		Filters:  defaultFilters(specs),
	}
}

// Load reads a file. The configuration is nil when a problem is more than a warning.
func Load(path string, specs []filters.Spec) (*Config, Problems) {
	text, err := readFile(path)
	if err != nil {
		return nil, Problems{{Problem: rules.Problem{Message: err.Error()}}}
	}
	c, problems := Parse(path, text, specs)
	return c, problems
}

// Parse reads a file's content. path names it in messages; relative names in it mean its folder.
func Parse(path string, text []byte, specs []filters.Spec) (*Config, Problems) {
	d := parse(path, text)
	c := Default(specs)
	c.doc = d
	c.Lists = filepath.Join(filepath.Dir(path), "lists")
	if d.root != nil {
		d.decodeTop(c)
	}
	if c.Rules == nil {
		defaults, problems := DefaultRules()
		c.Rules = defaults
		d.problems = append(d.problems, problems...)
	}
	d.check(c)
	d.problems.sort()
	if d.problems.Failed() {
		return nil, d.problems
	}
	return c, d.problems
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// decodeTop reads the top level. The sections `filters:` and `rules:` have their own ways.
func (d *document) decodeTop(c *Config) {
	pairs, ok := mapping(d.root)
	if !ok {
		d.problem(d.start(d.root), "a configuration is a mapping; the least one is `domains:` and `backend:`")
		return
	}
	v := reflect.ValueOf(c).Elem()
	known := append(keysOf(v.Type()), "filters", "rules")
	seen := map[string]rules.Pos{}
	for _, pair := range pairs {
		key, at := pair.Key.GetToken().Value, d.pos(pair.Key.GetToken())
		if first, again := seen[key]; again {
			d.problem(at, "%s is already set in line %d", key, first.Line)
			continue
		}
		seen[key] = at
		switch field, ok := fieldOf([]reflect.Value{v}, key); {
		case ok:
			d.decode(pair.Value, field, key)
		case key == "filters":
			d.decodeFilters(pair.Value, c.Filters)
		case key == "rules":
			c.Rules = d.decodeRules(pair.Value)
		case later[key] != "":
			d.add(rules.Problem{Pos: at, Warning: true, Message: key + ": " + later[key]})
		default:
			d.problem(at, "unknown key %q%s", key, didYouMean(key, known))
		}
	}
}

// validate asks a section whether its values make sense.
func (d *document) validate(path string, section any) {
	if v, ok := section.(interface{ Validate() error }); ok {
		d.validated(path, v.Validate())
	}
}

// validated adds what a section found wrong with itself.
func (d *document) validated(path string, err error) {
	var keys filters.KeyErrors
	switch {
	case err == nil:
	case errors.As(err, &keys):
		for _, k := range keys {
			full := path
			if k.Key != "" {
				full = join(path, k.Key)
			}
			d.problem(d.place(full), "%s: %v", full, k.Err)
		}
	default:
		d.problem(d.place(path), "%s: %v", path, err)
	}
}

// check looks at the sections, then at what only the whole can tell.
func (d *document) check(c *Config) {
	for i := range c.Listen {
		d.validate(fmt.Sprintf("listen[%d]", i), &c.Listen[i])
	}
	d.validate("backend", &c.Backend)
	d.validate("resolver", &c.Resolver)
	d.validate("store", &c.Store)
	d.validate("limits", &c.Limits)
	d.validate("log", &c.Log)
	d.validated("backend", c.Backend.ValidateDomains(len(c.Domains) > 0))
	for i, name := range c.Domains {
		if !validDomain(name) {
			d.problem(d.place(fmt.Sprintf("domains[%d]", i)), "domains: %q is not a domain name; write internationalised ones as A-labels (xn--…)", name)
		}
	}
	if !validDomain(c.Hostname) {
		d.problem(d.place("hostname"), "hostname: %q is not a host name", c.Hostname)
	}
}

// validDomain accepts host names, underscores too, and a leading dot for "everything below".
func validDomain(name string) bool {
	if len(name) > 0 && name[0] == '.' {
		name = name[1:]
	}
	if len(name) == 0 || len(name) > 253 {
		return false
	}
	label := 0
	for i := range len(name) {
		switch c := name[i]; {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
			continue
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
		if label++; label > 63 {
			return false
		}
	}
	return label > 0
}

// Policy is what the engine is compiled from.
func (c *Config) Policy() policy.Config {
	return policy.Config{Hostname: c.Hostname, Contact: c.Contact, Domains: c.Domains, Trusted: c.Trusted, Filters: c.Filters, Rules: c.Rules}
}

// Compile builds the engine. The engine is nil when a problem is more than a warning.
func (c *Config) Compile(specs []filters.Spec, env filters.Env) (*policy.Engine, Problems) {
	engine, found := policy.Compile(c.Policy(), specs, env, Lists{Folder: c.Lists})
	d := &document{file: c.doc.file, lines: c.doc.lines, places: c.doc.places}
	for _, p := range found {
		if p.Warning && p.Pos.File == defaultRulesFile {
			continue // that the list files of the default rules are missing is how everybody starts
		}
		if p.Key != "" && p.Pos.File == "" {
			p.Pos = d.place(p.Key)
		}
		d.add(p.Problem)
	}
	d.problems.sort()
	if d.problems.Failed() {
		return nil, d.problems
	}
	return engine, d.problems
}
