package main

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"text/template"

	"gatepost/proxy/store"
)

// haproxyConfig is what a package's HAProxy does in TCP mode; time-outs are longer than any measurement.
var haproxyConfig = template.Must(template.New("haproxy.cfg").Parse(`
global
    maxconn {{.Connections}}
defaults
    mode tcp
    timeout connect 5s
    timeout client 10m
    timeout server 10m
frontend smtp
    bind {{.Listen}}
    default_backend sink
backend sink
    server sink {{.Sink}}
`))

// gatepostConfig leaves everything at its default but limits that protect from exactly what a load generator does.
var gatepostConfig = template.Must(template.New("gatepost.yaml").Parse(`
hostname: mx.example.org
domains: [example.org]
listen:
  - address: "{{.Listen}}"
    {{- if .ProxyFrom}}
    proxy_from: [{{.ProxyFrom}}]
    {{- end}}
    {{- if .Certificate}}
    certificate: "{{.Certificate}}"
    {{- end}}
backend:
  address: "{{.Sink}}"
  client_address: xclient
  reuse: {{.Reuse}}
  eager: {{.Eager}}
resolver: {servers: ["{{.Resolver}}"]}
store: {path: "{{.Folder}}/state", max_entries: {{.Entries}}}
journal: {path: {{if .NoJournal}}"off"{{else}}"{{.Folder}}/journal"{{end}}, digest: {{.Digest}}}
admin: off
limits:
  connections: {{.Connections}}
  connections_per_client: 0
  commands: 1000000
  message_size: 2GiB
`))

// relayRules turn everything off that looks at a message.
const relayRules = relayFilters + "rules: []\n"

const relayFilters = `
filters:
  ratelimit: {enabled: false}
  earlytalker: {enabled: false}
  dnsbl: {enabled: false}
  rdns: {enabled: false}
  helo: {enabled: false}
  spf: {enabled: false}
  dkim: {enabled: false}
  arc: {enabled: false}
  dmarc: {enabled: false}
  greylist: {enabled: false}
  known: {enabled: false}
  reputation: {enabled: false}
`

// fullRules have every filter work on every message: a fact that no enforced rule reads would not be waited for. No
// rule applies to the mail that is sent. A filter that fails would make the proxy look fast: it has mail deferred, which
// fails the measurement.
const fullRules = `
filters:
  ratelimit:
    on_error: defer
    limits:
      - {name: connections, count: connections, per: client, rate: 1000000000/1h}
      - {name: messages, count: messages, per: client, rate: 1000000000/1h}
      - {name: recipients, count: recipients, per: client, rate: 1000000000/1h}
      - {name: unknown-recipients, count: refused, per: client, rate: 1000000000/1h}
      - {name: bytes, count: bytes, per: client, rate: 1000000GiB/1h}
  earlytalker: {pause: 100ms, on_error: defer}
  dnsbl:
    on_error: defer
    zones:
      - zone: ` + blockList + `
        codes: {127.0.0.2-127.0.0.11: 4}
        ipv6: "off"
  rdns: {on_error: defer}
  helo: {on_error: defer}
  spf: {on_error: defer}
  dkim: {on_error: defer}
  dmarc: {on_error: defer}
  greylist: {on_error: defer}
rules:
  - include: default
  - name: unresolved
    when: not helo.resolves or spf.helo_result == "fail"
    then: reject
    reply: 550 5.7.1 Your mail server greets with a name that is not its own
  - name: stranger
    when: greylist.state == "new" and spf.result != "pass"
    then: greylist
  - name: broken-signature
    when: dkim.signatures > 0 and dkim.result != "pass"
    then: reject
    reply: 550 5.7.20 The signature of the message does not hold
  - name: forged-enforced
    when: dmarc.result == "fail" and dmarc.policy == "reject"
    then: reject
    reply: 550 5.7.26 The message fails the DMARC policy of {dmarc.domain}
`

// settings fill the templates.
type settings struct {
	Listen, Sink     netip.AddrPort
	Resolver, Folder string
	Connections      int
	Entries          int  // the store's bound
	Reuse            bool // of connections to the sink
	Eager            bool // hand-over, EHLO and envelope in one segment
	NoJournal        bool
	Digest           bool   // the journal has that of each message
	ProxyFrom        string // network of clients that send a PROXY header; empty: none do
	Certificate      string // file with certificate and key; empty: no TLS
}

func (b *bench) settings(folder string, addr netip.AddrPort) settings {
	return settings{Listen: addr, Sink: b.sink.Addr(), Resolver: b.dns.addr(), Folder: folder, Entries: max(store.Defaults().MaxEntries, 2*b.many), Connections: max(b.idle, b.waiters, crowd) + 500, Reuse: true}
}

func haproxyCommand(b *bench, folder string, addr netip.AddrPort) ([]string, error) {
	file := filepath.Join(folder, "haproxy.cfg")
	s := b.settings(folder, addr)
	s.Connections = max(b.idle, crowd) + 500 // it takes two descriptors for each, and ends if it may not have them
	return []string{"-db", "-f", file}, writeConfig(file, haproxyConfig, s, "")
}

// Gatepost in the ways that are measured.
var (
	relayCommand      = gatepostCommand(relayRules)
	freshCommand      = gatepostCommand(relayRules, withoutReuse)
	eagerCommand      = gatepostCommand(relayRules, eagerly)
	eagerFreshCommand = gatepostCommand(relayRules, eagerly, withoutReuse)
	plainCommand      = gatepostCommand(relayRules, eagerly, toPlainSink)
	fullCommand       = gatepostCommand(fullRules, withDigest)
	eagerFullCommand  = gatepostCommand(fullRules, withDigest, eagerly)
	silentCommand     = gatepostCommand(fullRules, withDigest, withoutJournal)
)

type setting func(*bench, *settings)

func withoutReuse(_ *bench, s *settings)   { s.Reuse = false }
func eagerly(_ *bench, s *settings)        { s.Eager = true }
func withDigest(_ *bench, s *settings)     { s.Digest = true }
func withoutJournal(_ *bench, s *settings) { s.NoJournal = true }
func toPlainSink(b *bench, s *settings)    { s.Sink = b.plainSink.Addr() }

func gatepostCommand(rules string, changes ...setting) commandFunc {
	return func(b *bench, folder string, addr netip.AddrPort) ([]string, error) {
		s := b.settings(folder, addr)
		for _, change := range changes {
			change(b, &s)
		}
		return writeGatepost(s, rules)
	}
}

func writeGatepost(s settings, rules string) ([]string, error) {
	file := filepath.Join(s.Folder, "gatepost.yaml")
	return []string{"serve", "-c", file}, writeConfig(file, gatepostConfig, s, rules)
}

func writeConfig(file string, t *template.Template, s settings, rest string) error {
	var text bytes.Buffer
	if err := t.Execute(&text, s); err != nil {
		return err
	}
	text.WriteString(rest)
	return os.WriteFile(file, text.Bytes(), 0o600)
}
