package calledtest

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"

	"gatepost/filters"
	"gatepost/proxy"
	"gatepost/proxy/backend/backendtest"
)

// Script is a dialogue.
type Script struct {
	Name string
	// Left is why the dialogue is for SMTP only, in general; Because says it of this one. Empty: it is not.
	Left, Because string

	backend, dialogue string
	config            scriptConfig
}

// scriptConfig is what of a dialogue's configuration every front end knows.
type scriptConfig struct {
	Domains   []string            `yaml:"domains"`
	Trusted   []string            `yaml:"trusted"`
	Rules     []map[string]string `yaml:"rules"`
	Mailboxes []string            `yaml:"mailboxes"`
	Limits    proxy.Limits        `yaml:"limits"`
	Spill     filters.Size        `yaml:"spill"`
	// Quarantine is the proxy's; MTAs have their own.
	Quarantine filters.Size `yaml:"quarantine"`
}

// Why dialogues are for SMTP only.
const (
	declared   = "it says so itself"
	way        = "the way to the backend is the proxy's"
	client     = "the connection with the client is the MTA's"
	bounds     = "bounds on the client's commands and time are the MTA's"
	misbehaves = "a backend that closes, falls silent or talks nonsense: the MTA is the backend"
	envelope   = "whom a readdressed message goes to is the MTA's business: it takes what it is told"
	nothing    = "there are neither rules nor a transaction in it"
)

// keys are those of a dialogue's configuration. Empty: every front end knows it.
var keys = map[string]string{
	"domains": "", "trusted": "", "rules": "", "mailboxes": "", "limits": "", "quarantine": "", "spill": "",
	"backend_max_size": way, "client_address_none": way, "hold": way, "no_backend": way, "open_relay": way, "relay_check": way,
	"two_backends": way, "editor": envelope, "keywords": client, "line_endings": client, "pause": client, "proxy_from": client, "tls": client,
	"xclient_from": client,
}

// limits are those that every front end knows. The others are about the wire where they are lower than they are by
// default; a higher one only makes room for the dialogue.
var limits = []string{"header_size", "hops", "message_memory", "message_size"}

// directives are those about connections, not about mail. Empty: the client can do it with an MTA too.
var directives = map[string]string{
	"ehlo": "", "fill": "", "clock": "", "took": "",
	"drop backend": way, "stop backend": way, "hang up after the message": way,
	"connect": client, "close": client, "tls": client, "waits": client, "holds": client, "shutdown": client, "stopped": client,
	"wait": bounds,
}

// The MTA that is in the backend's place is asked about mail, and refuses some.
var (
	asked  = regexp.MustCompile(`^(MAIL|RCPT|DATA|\.)`)
	decent = regexp.MustCompile(`^(?:[45]\d\d[- ][^\r]*(?:\r\n|$))+$`)
	closes = regexp.MustCompile(`^421|HANGUP|STALL`)
)

var smtpOnly = regexp.MustCompile(`(?m)^(?:# )?SMTP only: (.+)$`)

// ReadScripts reads all dialogues in a folder.
func ReadScripts(folder string) (scripts []*Script, err error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.txtar"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no dialogues in %s: %w", folder, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		s, err := readScript(strings.TrimSuffix(filepath.Base(file), ".txtar"), string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		scripts = append(scripts, s)
	}
	return scripts, nil
}

func readScript(name, text string) (*Script, error) {
	parts, part := map[string]string{}, ""
	for line := range strings.Lines(text) {
		if marker, ok := strings.CutPrefix(line, "-- "); ok && strings.HasSuffix(marker, " --\n") {
			part = strings.TrimSuffix(marker, " --\n")
			continue
		}
		parts[part] += line
	}
	s := &Script{Name: name, backend: parts["backend"], dialogue: parts["dialogue"]}
	if reason := smtpOnly.FindStringSubmatch(parts[""]); reason != nil {
		s.Left, s.Because = declared, reason[1]
		return s, nil
	}
	if err := s.scope(parts["config"]); err != nil || s.Left != "" {
		return s, err
	}
	s.config.Limits = proxy.DefaultLimits()
	s.config.Limits.ConnectionsPerClient = 0
	if parts["config"] == "" {
		return s, nil
	}
	// The dialogues' client is on loopback; here it is the stranger of all front ends.
	return s, yaml.Unmarshal([]byte(strings.ReplaceAll(parts["config"], "127.0.0.1", Stranger.Addr().String())), &s.config)
}

// scope finds what is about the wire of the proxy and not about what is decided.
func (s *Script) scope(config string) error {
	var set map[string]any
	if err := yaml.Unmarshal([]byte(config), &set); err != nil {
		return err
	}
	for key := range set {
		why, known := keys[key]
		if !known {
			return fmt.Errorf("the configuration of a dialogue has a new key %s: say in calledtest whether it is about the wire", key)
		}
		s.leave(why, "it sets "+key)
	}
	if err := s.scopeLimits(set["limits"]); err != nil {
		return err
	}
	for line := range strings.Lines(s.dialogue) {
		directive, ok := strings.CutPrefix(strings.TrimSpace(line), "! ")
		if !ok {
			continue
		}
		why, known := directives[directive]
		if !known {
			verb, _, _ := strings.Cut(directive, " ")
			if why, known = directives[verb]; !known {
				return fmt.Errorf("there is a new directive %q: say in calledtest whether it is about the wire", directive)
			}
		}
		s.leave(why, "it says ! "+directive)
	}
	for _, a := range answers(s.backend) {
		switch {
		case !asked.MatchString(a.prefix):
			s.leave(way, "the backend has an answer to "+a.prefix)
		case closes.MatchString(a.reply), !decent.MatchString(a.reply) && (a.prefix != "." || a.reply[0] != '2'):
			s.leave(misbehaves, "the backend says "+a.reply)
		}
	}
	if set["rules"] == nil && !strings.Contains(s.dialogue, "MAIL FROM:") {
		s.leave(nothing, "no MAIL")
	}
	return nil
}

func (s *Script) leave(why, because string) {
	if s.Left == "" && why != "" {
		s.Left, s.Because = why, because
	}
}

// scopeLimits compares with the defaults by way of YAML, in whose words the limits are.
func (s *Script) scopeLimits(set any) error {
	named, _ := set.(map[string]any)
	for key, value := range named {
		if slices.Contains(limits, key) {
			continue
		}
		text, err := yaml.Marshal(map[string]any{key: value})
		if err != nil {
			return err
		}
		lower, usual := proxy.DefaultLimits(), proxy.DefaultLimits()
		if err := yaml.UnmarshalWithOptions(text, &lower, yaml.Strict()); err != nil {
			return err
		}
		if isLower(reflect.ValueOf(lower), reflect.ValueOf(usual)) {
			s.leave(bounds, fmt.Sprintf("it sets limits.%s: %v", key, value))
		}
	}
	return nil
}

// isLower tells whether a number in a is lower than the one in b.
func isLower(a, b reflect.Value) bool {
	for i := range a.NumField() {
		if a.Field(i).CanInt() && a.Field(i).Int() < b.Field(i).Int() {
			return true
		}
	}
	return false
}

// scripted is an answer of the backend that a dialogue asks for.
type scripted struct {
	prefix, reply string
	once          bool
}

func answers(script string) (list []scripted) {
	for line := range strings.Lines(script) {
		prefix, reply, ok := strings.Cut(strings.TrimSpace(line), " => ")
		if !ok {
			continue
		}
		prefix, once := strings.CutPrefix(prefix, "once ")
		list = append(list, scripted{prefix, strings.ReplaceAll(reply, `\r\n`, "\r\n"), once})
	}
	return list
}

// backendScript is what the backend says in its own words, once a dialogue has begun: proxies probe it before. It is safe
// for concurrent use.
type backendScript struct {
	mu      sync.Mutex // guards all below
	answers []scripted
	begun   bool
}

func (s *Script) backendScript() *backendScript { return &backendScript{answers: answers(s.backend)} }

func (b *backendScript) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begun = true
}

func (b *backendScript) answer(_ *backendtest.Session, line string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, a := range b.answers {
		if !b.begun || !strings.HasPrefix(line, a.prefix) {
			continue
		}
		if a.once {
			b.answers = slices.Delete(b.answers, i, i+1)
		}
		return a.reply
	}
	return ""
}
