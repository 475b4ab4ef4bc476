package main

import (
	"fmt"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/proxy/journal"
	"gatepost/rules"
)

// entryJSON is an entry as `gatepost journal --json` prints it. It is documented in docs/journal.md: keys are added, and
// none is changed.
type entryJSON struct {
	ID         string                    `json:"id"`
	Kind       string                    `json:"kind"`
	Start      time.Time                 `json:"start"`
	End        time.Time                 `json:"end"`
	Verdict    string                    `json:"verdict"`
	Rule       *matchJSONEntry           `json:"rule,omitempty"`
	Reply      *replyJSON                `json:"reply,omitempty"`
	Client     string                    `json:"client"`
	Local      string                    `json:"local"`
	Helo       string                    `json:"helo,omitempty"`
	TLS        string                    `json:"tls,omitempty"`
	User       string                    `json:"user,omitempty"`
	From       *string                   `json:"from,omitempty"`
	Params     []string                  `json:"params,omitempty"`
	Recipients []recipientEntryJSON      `json:"recipients,omitempty"`
	Backend    string                    `json:"backend,omitempty"`
	QueueID    string                    `json:"queue_id,omitempty"`
	Size       int64                     `json:"size,omitempty"`
	Digest     string                    `json:"digest,omitempty"`
	Note       string                    `json:"note,omitempty"`
	Confirmed  *time.Time                `json:"confirmed,omitempty"`
	Facts      map[string]map[string]any `json:"facts"`
	Headers    map[string]string         `json:"headers,omitempty"`
	Score      float64                   `json:"score"`
	Filters    []filterJSON              `json:"filters,omitempty"`
	Rules      []matchJSONEntry          `json:"rules,omitempty"`
}

type replyJSON struct {
	Code     int    `json:"code"`
	Enhanced string `json:"enhanced,omitempty"`
	Text     string `json:"text"`
	Ours     bool   `json:"ours"`
}

type matchJSONEntry struct {
	Name      string `json:"name"`
	Action    string `json:"action"`
	Place     string `json:"place"`
	When      string `json:"when"`
	Observed  bool   `json:"observed,omitempty"`
	Recipient string `json:"recipient,omitempty"`
}

type recipientEntryJSON struct {
	Address string    `json:"address"`
	Params  []string  `json:"params,omitempty"`
	Reply   replyJSON `json:"reply"`
	Rule    string    `json:"rule,omitempty"`
}

func newEntryJSON(e *journal.Entry) entryJSON {
	out := entryJSON{ID: e.ID, Kind: e.Kind, Start: e.Start, End: e.End, Verdict: e.Verdict, Backend: e.Ending.Backend, QueueID: e.Ending.QueueID,
		Size: e.Ending.Size, Note: e.Ending.Note, Score: e.Score, Facts: map[string]map[string]any{}}
	if rule := e.Decisive(); rule != nil {
		decisive := newMatchJSON(journal.Match{Rule: rule})
		out.Rule = &decisive
	}
	if reply, ours := e.Reply(); reply.Code != 0 {
		last := newReplyJSON(reply, ours)
		out.Reply = &last
	}
	if s := e.Session; s != nil {
		out.Client, out.Local = s.Client.String(), s.Local.String()
	}
	if g := e.Greeting; g != nil {
		out.Helo, out.User = g.Name, g.AuthUser
		if g.TLS != nil {
			out.TLS = g.TLS.Version
		}
	}
	if e.Envelope != nil {
		from := e.Envelope.ReversePath
		out.From, out.Params = &from, paramStrings(e.Envelope.Params)
	}
	if e.Ending.Digest != [32]byte{} {
		out.Digest = fmt.Sprintf("%x", e.Ending.Digest)
	}
	if !e.Confirmed.IsZero() {
		at := e.Confirmed
		out.Confirmed = &at
	}
	out.lists(e)
	return out
}

func (out *entryJSON) lists(e *journal.Entry) {
	for i := range e.Recipients {
		r := &e.Recipients[i]
		item := recipientEntryJSON{Address: r.Address, Params: paramStrings(r.Params), Reply: newReplyJSON(r.Reply, r.Ours)}
		if r.Rule != nil {
			item.Rule = r.Rule.Name
		}
		out.Recipients = append(out.Recipients, item)
	}
	for i := range e.Facts {
		e.Facts[i].All(func(name string, value any) {
			group, fact, _ := strings.Cut(name, ".")
			if out.Facts[group] == nil {
				out.Facts[group] = map[string]any{}
			}
			out.Facts[group][fact] = value
		})
	}
	for _, h := range e.Headers {
		if h.Known && h.Value != "" {
			if out.Headers == nil {
				out.Headers = map[string]string{}
			}
			out.Headers[h.Name] = h.Value
		}
	}
	for i := range e.Filters {
		f := &e.Filters[i]
		out.Filters = append(out.Filters, filterJSON{f.Name, f.Stage.String(), f.Status, f.Error, float64(f.Duration.Microseconds()) / 1000})
	}
	for _, m := range e.Matched {
		out.Rules = append(out.Rules, newMatchJSON(m))
	}
}

func newMatchJSON(m journal.Match) matchJSONEntry {
	return matchJSONEntry{Name: m.Rule.Name, Action: m.Rule.Action, Place: m.Rule.Place(), When: m.Rule.When, Observed: m.Observed, Recipient: m.Recipient}
}

func newReplyJSON(r rules.Reply, ours bool) replyJSON {
	return replyJSON{r.Code, r.Enhanced, r.Text, ours}
}

func paramStrings(params []filters.Param) []string {
	var list []string
	for _, p := range params {
		list = append(list, strings.TrimPrefix(paramsText([]filters.Param{p}), " "))
	}
	return list
}
