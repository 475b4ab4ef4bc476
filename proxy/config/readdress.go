package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gatepost/proxy/backend"
	"gatepost/rules"
)

// checkReaddressing tells what becomes of recipients that a filter may add: that hangs on how mail is handed over.
func (d *document) checkReaddressing(c *Config) {
	for _, name := range slices.Sorted(maps.Keys(c.Filters)) {
		f := c.Filters[name]
		adder, ok := f.Settings.(interface{ AddsRecipients() bool })
		if !ok || !adder.AddsRecipients() || !f.Common.Enabled {
			continue
		}
		kind, instance, _ := strings.Cut(name, ".")
		at := fmt.Sprintf("filters.%s[%d].edits", kind, f.Place)
		for _, text := range c.readdressing() {
			d.add(rules.Problem{Pos: d.place(at), Warning: true, Message: fmt.Sprintf("%s: recipients that %s adds: %s", at, instance, text)})
		}
	}
}

// readdressing is what each front end does with an added recipient, as far as operators may expect something else.
func (c *Config) readdressing() (texts []string) {
	proxied := len(c.Listen) > 0 || !c.called()
	switch {
	case proxied && c.Backend.ClientAddress == backend.NoAddress:
		texts = append(texts, "the backend takes Gatepost for the client (client_address: none), so that it may relay to wherever they are")
	case proxied:
		texts = append(texts, fmt.Sprintf("the backend knows the client's address (client_address: %s), and takes only those that it would take from the client; with another one the message is answered 451 and goes to nobody", c.Backend.ClientAddress))
	}
	if len(c.Milter) > 0 {
		texts = append(texts, "an MTA that calls Gatepost takes them without a look, and reports those that it cannot deliver to the sender")
	}
	if !proxied && len(c.Milter) == 0 {
		texts = append(texts, "there are none, for a policy server sees no message: the milter is never asked")
	}
	return texts
}
