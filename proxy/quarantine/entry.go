package quarantine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"gatepost/filters"
	"gatepost/policy"
)

// Entry is what is known of a message: its side file, in JSON. All texts in it but the rule's were written by strangers.
type Entry struct {
	Format      int             `json:"format"` // of the side file; Keep sets it
	ID          string          `json:"id"`     // the transaction's
	Kept        time.Time       `json:"kept"`   // Keep sets it
	Copy        bool            `json:"copy"`   // the message was refused, and the sender knows
	Rule        Rule            `json:"rule"`
	Reply       string          `json:"reply"` // what the client was told
	Client      Client          `json:"client"`
	ReversePath string          `json:"reverse_path"` // empty for <>
	Params      []filters.Param `json:"params,omitempty"`
	Recipients  []Recipient     `json:"recipients"`
	From        string          `json:"from,omitempty"`    // the field of that name, for people; its beginning
	Subject     string          `json:"subject,omitempty"` // likewise
	Facts       map[string]any  `json:"facts,omitempty"`   // bool, number, string, list of strings, by name
	Score       float64         `json:"score,omitempty"`
	Size        int64           `json:"size"`   // of the message in bytes; Keep sets it
	Digest      string          `json:"sha256"` // of the message; Keep sets it
	// Prepend and Cut are what would have been changed for the backend, and will be at release: complete fields on top, and
	// ranges to leave out.
	Prepend []byte        `json:"prepend,omitempty"`
	Cut     []policy.Span `json:"cut,omitempty"`
}

// Rule is the rule that decided.
type Rule struct {
	Name string `json:"name"`
	File string `json:"file"`
	Line int    `json:"line"`
}

// Client is who has sent the message.
type Client struct {
	Address     netip.AddrPort `json:"address"`
	Local       netip.AddrPort `json:"local"`                  // the address that it connected to
	Name        string         `json:"name,omitempty"`         // confirmed
	ReverseName string         `json:"reverse_name,omitempty"` // see backend.Client
	Helo        string         `json:"helo"`
	Extended    bool           `json:"extended"` // EHLO rather than HELO
	User        string         `json:"user,omitempty"`
}

// Recipient is one of those whom the backend has taken then.
type Recipient struct {
	Address  string          `json:"address"`
	Params   []filters.Param `json:"params,omitempty"`
	Released time.Time       `json:"released,omitzero"` // when the backend has taken the message for this one
	Reply    string          `json:"reply,omitempty"`   // what it has said to this one at the latest release
}

// format is the version of the side file. Fields are added without a new one: a reader passes over what it does not know.
const format = 1

// errNewer tells that a side file is of a later release.
var errNewer = errors.New("a later release of gatepost has kept it, in a form that this one does not know")

// Bounds of an entry.
const (
	maxAbout = 64 << 20 // bytes of a side file: far more than limits.recipients can bring about
	maxText  = 500      // bytes of From and Subject
	maxID    = 64
)

// validID keeps what is a file name and nothing else. IDs come from commands and web pages, too.
func validID(id string) bool {
	if id == "" || len(id) > maxID || id[0] == '.' {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}

// outline is what the index needs of an Entry, and what shows that it is whole. To read no more makes a start with a full
// folder twice as fast.
type outline struct {
	Format     int           `json:"format"`
	ID         string        `json:"id"`
	Kept       time.Time     `json:"kept"`
	Recipients []struct{}    `json:"recipients"`
	Size       int64         `json:"size"`
	Cut        []policy.Span `json:"cut"`
}

// check looks whether a side file says what it must of itself, and fits its name.
func (o *outline) check(id string) error {
	switch {
	case o.Format > format:
		return fmt.Errorf("%w (format %d; this release reads up to %d)", errNewer, o.Format, format)
	case o.Format < 1:
		return fmt.Errorf("the side file has format %d, which there never was", o.Format)
	case o.ID != id:
		return fmt.Errorf("the side file is that of %q", o.ID)
	case o.Size < 0 || len(o.Recipients) == 0:
		return fmt.Errorf("the side file says %d bytes for %d recipients", o.Size, len(o.Recipients))
	}
	last := int64(0)
	for _, cut := range o.Cut {
		if cut.Start < last || cut.End < cut.Start || cut.End > o.Size {
			return fmt.Errorf("the side file leaves out bytes %d to %d of %d", cut.Start, cut.End, o.Size)
		}
		last = cut.End
	}
	return nil
}

// readOutline reads the outline of a side file.
func readOutline(path, id string) (*outline, error) {
	text, err := readAbout(path)
	if err != nil {
		return nil, err
	}
	o := new(outline)
	if err := json.Unmarshal(text, o); err != nil {
		return nil, unreadable(err)
	}
	return o, o.check(id)
}

// readEntry reads a side file.
func readEntry(path, id string) (*Entry, error) {
	text, err := readAbout(path)
	if err != nil {
		return nil, err
	}
	return parseEntry(text, id)
}

func readAbout(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxAbout+1))
	if err == nil && len(text) > maxAbout {
		err = fmt.Errorf("%s is larger than any that was written", path)
	}
	return text, err
}

func unreadable(err error) error { return fmt.Errorf("the side file cannot be read: %w", err) }

func parseEntry(text []byte, id string) (*Entry, error) {
	e := new(Entry)
	if err := json.Unmarshal(text, e); err != nil {
		return nil, unreadable(err)
	}
	o := outline{e.Format, e.ID, e.Kept, make([]struct{}, len(e.Recipients)), e.Size, e.Cut}
	if err := o.check(id); err != nil {
		return nil, err
	}
	return e, nil
}

// shorten keeps the beginning of a text for people.
func shorten(s string) string {
	if len(s) <= maxText {
		return s
	}
	return s[:maxText]
}
