package filters

// Editor is implemented by facts of a filter that wants the message changed, as milters do. Changes is nil or empty
// where it does not; it is not written any more.
type Editor interface{ Changes() *Changes }

// Changes are what one filter wants changed in a message.
type Changes struct {
	// After is the changes that had been made to what the filter saw, nil for none: a milter that reads what another one
	// has added.
	After  *Changes
	Fields []FieldEdit // in order: each counts what the ones before it have left
	// Body replaces the message's body if it is not nil.
	Body []byte
	// Envelope is in order, too.
	Envelope []EnvelopeEdit
}

// Empty tells whether nothing is to be changed.
func (c *Changes) Empty() bool {
	return c == nil || len(c.Fields) == 0 && c.Body == nil && len(c.Envelope) == 0
}

// EnvelopeEdit is one change to whom a message is from, or for.
type EnvelopeEdit struct {
	Kind    EnvelopeEditKind
	Address string  // without angle brackets; empty for the null reverse-path
	Params  []Param // of AddRecipient: ESMTP parameters
}

// EnvelopeEditKind is what is done to an envelope.
type EnvelopeEditKind uint8

const (
	ChangeSender    EnvelopeEditKind = iota
	AddRecipient                     // nothing happens if it is one already
	DeleteRecipient                  // nothing happens if it is none
)

// EditKind is what is done to a header field.
type EditKind uint8

const (
	InsertField EditKind = iota // before the Index-th field, from 1; behind the last one if there are fewer
	AppendField                 // behind the last field
	ChangeField                 // the Index-th field of that name, from 1; appended if there are fewer
	DeleteField                 // the Index-th field of that name, from 1; nothing happens if there are fewer
)

// FieldEdit is one change to a header.
type FieldEdit struct {
	Kind  EditKind
	Index int
	Name  string
	Raw   []byte // the whole new field with its CRLF; nil for DeleteField
}
