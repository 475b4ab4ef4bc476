package setup

import (
	_ "embed"
	"strconv"
	"strings"
	"text/template"

	"gatepost/proxy/backend"
)

// Answers is what the configuration is made of: what was found, or what the operator said instead.
type Answers struct {
	Hostname      string
	Domains       []string
	MTA           MTA
	Backend       string // host:port
	ClientAddress backend.ClientAddress
	Certificate   string // empty: no TLS
	Key           string
	Contact       string
	Listen        string
	// Resolver is the name of a public resolver that the machine uses, to be warned of.
	Resolver string
}

// Answers as far as the machine has given them.
func (f *Found) Answers() Answers {
	return Answers{Hostname: f.Hostname, Domains: f.Domains, MTA: f.MTA, Backend: f.Address, ClientAddress: f.MTA.ClientAddress(),
		Certificate: f.Certificate, Key: f.Key, Listen: ":25", Resolver: f.Resolver}
}

//go:embed gatepost.yaml.tmpl
var text string

var page = template.Must(template.New("gatepost.yaml").Funcs(template.FuncMap{"quote": strconv.QuoteToASCII, "list": list}).Parse(text))

// Config is the commented file.
func (a Answers) Config() (string, error) {
	var b strings.Builder
	if err := page.Execute(&b, a); err != nil {
		return "", err
	}
	return b.String(), nil
}

// list writes a flow sequence.
func list(items []string) string {
	quoted := make([]string, len(items))
	for i, s := range items {
		quoted[i] = strconv.QuoteToASCII(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
