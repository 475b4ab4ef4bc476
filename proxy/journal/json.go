package journal

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/rules"
)

// EntryJSON is an entry as `gatepost journal --json` and the API give it. It is documented in docs/journal.md:
// keys are added, and none is changed.
type EntryJSON struct {
	ID         string                    `json:"id"`
	Kind       string                    `json:"kind"`
	Start      time.Time                 `json:"start"`
	End        time.Time                 `json:"end"`
	Verdict    string                    `json:"verdict,omitempty"`
	Rule       *MatchJSON                `json:"rule,omitempty"`
	Reply      *ReplyJSON                `json:"reply,omitempty"`
	Client     string                    `json:"client,omitempty"`
	Local      string                    `json:"local,omitempty"`
	Helo       string                    `json:"helo,omitempty"`
	TLS        string                    `json:"tls,omitempty"`
	User       string                    `json:"user,omitempty"`
	From       *string                   `json:"from,omitempty"`
	Params     []string                  `json:"params,omitempty"`
	Recipients []RecipientJSON           `json:"recipients,omitempty"`
	Backend    string                    `json:"backend,omitempty"`
	QueueID    string                    `json:"queue_id,omitempty"`
	Size       int64                     `json:"size,omitempty"`
	Digest     string                    `json:"digest,omitempty"`
	Note       string                    `json:"note,omitempty"`
	Kept       string                    `json:"kept,omitempty"`
	Confirmed  *time.Time                `json:"confirmed,omitempty"`
	Facts      map[string]map[string]any `json:"facts"`
	Headers    map[string]string         `json:"headers,omitempty"`
	Score      float64                   `json:"score"`
	Filters    []FilterJSON              `json:"filters,omitempty"`
	Rules      []MatchJSON               `json:"rules,omitempty"`
	Change     *ChangeJSON               `json:"change,omitempty"`
}

// ChangeJSON is what was changed beside the mail.
type ChangeJSON struct {
	What  string       `json:"what"`
	By    string       `json:"by,omitempty"`
	Kind  string       `json:"kind,omitempty"`
	About string       `json:"about,omitempty"`
	Until time.Time    `json:"until,omitzero"`
	Why   string       `json:"why,omitempty"`
	Note  string       `json:"note,omitempty"`
	Rules []RuleInJSON `json:"rules,omitempty"`
}

// RuleInJSON is a rule that came into force.
type RuleInJSON struct {
	Name   string `json:"name"`
	Action string `json:"action"`
	Mode   string `json:"mode"`
	Place  string `json:"place"`
	When   string `json:"when"`
}

// ReplyJSON is a reply that was sent.
type ReplyJSON struct {
	Code     int    `json:"code"`
	Enhanced string `json:"enhanced,omitempty"`
	Text     string `json:"text"`
	Ours     bool   `json:"ours"`
}

// MatchJSON is a rule whose condition was true.
type MatchJSON struct {
	Name      string `json:"name"`
	Action    string `json:"action"`
	Place     string `json:"place"`
	When      string `json:"when"`
	Observed  bool   `json:"observed,omitempty"`
	Recipient string `json:"recipient,omitempty"`
}

// FilterJSON says how an observation went.
type FilterJSON struct {
	Name   string  `json:"name"`
	Stage  string  `json:"stage"`
	Status string  `json:"status"`
	Error  string  `json:"error,omitempty"`
	Millis float64 `json:"ms"`
}

// RecipientJSON is one RCPT and how it was answered.
type RecipientJSON struct {
	Address string    `json:"address"`
	Params  []string  `json:"params,omitempty"`
	Reply   ReplyJSON `json:"reply"`
	Rule    string    `json:"rule,omitempty"`
}

// NewEntryJSON returns what there is to say of an entry; it shares lists of texts with it.
func NewEntryJSON(e *Entry) EntryJSON {
	out := EntryJSON{ID: e.ID, Kind: e.Kind, Start: e.Start, End: e.End, Verdict: e.Verdict, Backend: e.Ending.Backend, QueueID: e.Ending.QueueID,
		Size: e.Ending.Size, Note: e.Ending.Note, Kept: e.Ending.Kept, Score: e.Score, Facts: map[string]map[string]any{}}
	if rule := e.Decisive(); rule != nil {
		decisive := newMatchJSON(Match{Rule: rule})
		out.Rule = &decisive
	}
	if reply, ours := e.Reply(); reply.Code != 0 {
		last := newReplyJSON(reply, ours)
		out.Reply = &last
	}
	if s := e.Session; s != nil {
		out.Client, out.Local = s.AddrPort().String(), s.Local().String()
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
	out.Change = newChangeJSON(e.Change)
	out.lists(e)
	return out
}

func (out *EntryJSON) lists(e *Entry) {
	for i := range e.Recipients {
		r := &e.Recipients[i]
		item := RecipientJSON{Address: r.Address, Params: paramStrings(r.Params), Reply: newReplyJSON(r.Reply, r.Ours)}
		if r.Rule != nil {
			item.Rule = r.Rule.Name
		}
		out.Recipients = append(out.Recipients, item)
	}
	for i := range e.Facts {
		e.Facts[i].All(func(name string, value any) {
			dot := strings.LastIndexByte(name, '.')
			group, fact := name[:max(dot, 0)], name[dot+1:]
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
		out.Filters = append(out.Filters, FilterJSON{f.Name, f.Stage.String(), f.Status, f.Error, float64(f.Duration.Microseconds()) / 1000})
	}
	for _, m := range e.Matched {
		out.Rules = append(out.Rules, newMatchJSON(m))
	}
}

func newChangeJSON(c *Change) *ChangeJSON {
	if c == nil {
		return nil
	}
	out := &ChangeJSON{What: c.What, By: c.By, Kind: c.Kind, About: c.About, Until: c.Until, Why: c.Why, Note: c.Note}
	for _, r := range c.Rules {
		out.Rules = append(out.Rules, RuleInJSON{r.Name, r.Action, r.Mode, r.Place(), r.When})
	}
	return out
}

func newMatchJSON(m Match) MatchJSON {
	return MatchJSON{Name: m.Rule.Name, Action: m.Rule.Action, Place: m.Rule.Place(), When: m.Rule.When, Observed: m.Observed, Recipient: m.Recipient}
}

func newReplyJSON(r rules.Reply, ours bool) ReplyJSON {
	return ReplyJSON{r.Code, r.Enhanced, r.Text, ours}
}

func paramStrings(params []filters.Param) []string {
	var list []string
	for _, p := range params {
		list = append(list, ParamText(p))
	}
	return list
}

// ParamText is a parameter of MAIL or RCPT as it was given.
func ParamText(p filters.Param) string {
	if p.HasValue {
		return p.Key + "=" + p.Value
	}
	return p.Key
}

// ReplyLines are the lines of a reply as they were sent, without line ends (RFC 5321, 4.2.1).
func ReplyLines(r rules.Reply) []string {
	lines := strings.Split(r.Text, "\n")
	for i, line := range lines {
		separator := " "
		if i < len(lines)-1 {
			separator = "-"
		}
		enhanced := ""
		if r.Enhanced != "" {
			enhanced = r.Enhanced + " "
		}
		lines[i] = strings.TrimRight(strconv.Itoa(r.Code)+separator+enhanced+line, " ")
	}
	return lines
}
