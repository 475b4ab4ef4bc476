package rules

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Group is a set of facts that become known together: a struct type with `fact:"…"` tags, known from Stage on. Several
// groups may share a Name; the names of their facts must differ. A Name may have two parts, as in "milter.rspamd".
//
// An empty Name makes facts whose names stand alone: those of a record, such as `verdict`, which are searched for but
// which no filter declares.
//
// A field is a bool, an int, an int32, an int64, a float64, a string, a []string or a netip.Addr, or a pointer to one of these,
// absent while it is nil. The tag `values:"a b c"` lists all values that a text can have, `unit:"…"` is for manuals, and
// `reply:"smtp"` marks a text that is a whole SMTP reply, "550 5.7.1 text", which a rule may give in place of its own. A field
// of type [HeaderSource] with the tag `fact:"header"` is what header() reads.
//
// With an Alias, which no group can be called beside it, the facts may be written alias.fact, too. Rules know them by
// their Name however they are written.
//
// What is Given repeats what session, envelope and message say themselves, rather than what was found out:
// [Facts.AppendText] leaves it out.
type Group struct {
	Name  string
	Type  reflect.Type
	Stage int
	Alias string
	Given bool
}

// HeaderSource is implemented by the field tagged `fact:"header"` of the message group.
type HeaderSource interface {
	// Header returns the unfolded value of the first field of that name; ok is false when there is none.
	Header(name string) (value string, ok bool)
}

// PartialHeader is a [HeaderSource] of which not every field was recorded. What header() reads of the others is absent.
type PartialHeader interface {
	HeaderSource
	Holds(name string) bool
}

// Kind is the type of a fact.
type Kind uint8

const (
	Bool Kind = iota
	Number
	Text
	List
	Address
)

var kindNames = [...]string{Bool: "true or false", Number: "number", Text: "text", List: "list", Address: "address"}

// String names the kind for manuals.
func (k Kind) String() string { return kindNames[k] }

// phrase is what a fact of the kind is, in a sentence.
func (k Kind) phrase() string {
	switch k {
	case Bool:
		return "true or false"
	case Address:
		return "an address"
	default:
		return "a " + k.String()
	}
}

// Fact is one fact's declaration, for manuals and messages.
type Fact struct {
	Name   string // "spf.result"
	Kind   Kind
	Values []string // all possible values, if closed
	Unit   string   // of a number, if it has one
	Group  int
	Stage  int
	Type   reflect.Type // the struct that declares it
	Field  string       // the name of its field in Type
}

// field is a fact and how to read it.
type field struct {
	Fact
	offset  uintptr      // in its struct
	stored  reflect.Kind // as what it is there, behind a pointer if it has one
	column  int          // among the facts of its group
	pointer bool
	isReply bool // tagged `reply:"smtp"`
}

// Schema is all facts there are. Immutable, safe for concurrent use.
type Schema struct {
	stages    []string
	speak     int
	recipient int // the stage at which facts differ from recipient to recipient
	groups    []Group
	given     bits // of groups
	fields    []*field
	columns   [][]Column        // by group
	byName    map[string]*field // by their aliases, too
	aliases   []string          // of facts
	header    *field            // nil when no group has a HeaderSource
}

// recipientStage names the stage that is run through once for each recipient.
const recipientStage = "rcpt"

// reservedNames mean something else in an expression and cannot be groups.
var reservedNames = []string{
	"score", "true", "false", "nil", "and", "or", "not", "in", "contains", "startsWith", "endsWith", "matches", "let", "if", "else",
}

var (
	identifier = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	groupName  = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?$`)
)

// IsInstanceName tells whether a group can be called NAME.name: of a filter that is there several times, each instance
// has a name.
func IsInstanceName(name string) bool {
	return identifier.MatchString(name) && !slices.Contains(reservedNames, name)
}

// canBeGroup tells whether facts can be called name.fact.
func canBeGroup(name string) bool {
	return groupName.MatchString(name) &&
		!slices.ContainsFunc(strings.Split(name, "."), func(part string) bool { return slices.Contains(reservedNames, part) })
}

// NewSchema collects the facts of all groups. stages are the names of the stages in order; speak is the stage before
// which no refusal is spoken unless a rule says `at:`.
func NewSchema(stages []string, speak int, groups []Group) (*Schema, error) {
	if speak < 0 || speak >= len(stages) {
		return nil, fmt.Errorf("rules: stage %d of %d does not exist", speak, len(stages))
	}
	if len(groups) > maxGroups {
		return nil, fmt.Errorf("rules: %d groups of facts are more than %d", len(groups), maxGroups)
	}
	s := &Schema{stages: stages, speak: speak, groups: slices.Clone(groups), byName: make(map[string]*field)}
	s.columns = make([][]Column, len(s.groups))
	s.recipient = slices.Index(stages, recipientStage)
	if s.recipient < 0 {
		s.recipient = len(stages)
	}
	for i, g := range s.groups {
		if err := s.add(i, g); err != nil {
			return nil, fmt.Errorf("rules: facts of %s: %w", g.Name, err)
		}
		if g.Given {
			s.given |= 1 << uint(i)
		}
	}
	if err := s.alias(); err != nil {
		return nil, err
	}
	return s, nil
}

// alias adds the second names of facts.
func (s *Schema) alias() error {
	for i, g := range s.groups {
		if g.Alias == "" {
			continue
		}
		if !IsInstanceName(g.Alias) || s.takes(g.Alias) {
			return fmt.Errorf("rules: facts of %s cannot be called %s as well: that is the name of others, or has a meaning of its own", g.Name, g.Alias)
		}
		for _, c := range s.columns[i] {
			name := g.Alias + strings.TrimPrefix(c.field.Name, g.Name)
			if s.byName[name] != nil {
				return fmt.Errorf("rules: there are two facts %s", name)
			}
			s.byName[name] = c.field
			s.aliases = append(s.aliases, name)
		}
	}
	return nil
}

// takes tells whether a name stands at the head of a fact's.
func (s *Schema) takes(name string) bool {
	return slices.ContainsFunc(s.groups, func(g Group) bool {
		first, _, _ := strings.Cut(g.Name, ".")
		return first == name
	}) || s.byName[name] != nil
}

func (s *Schema) add(group int, g Group) error {
	switch {
	case g.Name != "" && !canBeGroup(g.Name):
		return fmt.Errorf("%q cannot be the name of a group", g.Name)
	case g.Type == nil || g.Type.Kind() != reflect.Struct:
		return fmt.Errorf("%v is not a struct", g.Type)
	case g.Stage < 0 || g.Stage >= len(s.stages):
		return fmt.Errorf("stage %d does not exist", g.Stage)
	}
	for i := range g.Type.NumField() {
		structField := g.Type.Field(i)
		tag, ok := structField.Tag.Lookup("fact")
		if !ok {
			continue
		}
		name := tag
		if g.Name != "" {
			name = g.Name + "." + tag
		}
		x := &field{offset: structField.Offset, column: len(s.columns[group]), Fact: Fact{
			Name: name, Group: group, Stage: g.Stage, Type: g.Type, Field: structField.Name,
			Unit: structField.Tag.Get("unit"), Values: strings.Fields(structField.Tag.Get("values")),
		}}
		if !structField.IsExported() || !identifier.MatchString(tag) || g.Name == "" && slices.Contains(reservedNames, tag) {
			return fmt.Errorf("field %s: a fact needs an exported field and a name of a-z, 0-9 and _, not %q", structField.Name, tag)
		}
		if structField.Type == reflect.TypeFor[HeaderSource]() {
			if s.header != nil {
				return fmt.Errorf("field %s: %s is the header already", structField.Name, s.header.Name)
			}
			x.Kind = Text
			s.header = x
			continue
		}
		x.isReply = structField.Tag.Get("reply") == "smtp"
		if err := x.setKind(structField.Type); err != nil {
			return fmt.Errorf("field %s: %w", structField.Name, err)
		}
		if other := s.byName[x.Name]; other != nil {
			return fmt.Errorf("field %s: the fact %s exists already, in %v", structField.Name, x.Name, other.Type)
		}
		s.byName[x.Name] = x
		s.fields = append(s.fields, x)
		s.columns[group] = append(s.columns[group], Column{x})
	}
	return nil
}

func (x *field) setKind(t reflect.Type) error {
	if t.Kind() == reflect.Pointer {
		x.pointer = true
		t = t.Elem()
	}
	x.stored = t.Kind()
	switch {
	case t == reflect.TypeFor[netip.Addr]():
		x.Kind = Address
	case t == reflect.TypeFor[[]string]():
		x.Kind = List
	case t.Kind() == reflect.Bool:
		x.Kind = Bool
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int32, t.Kind() == reflect.Int64, t.Kind() == reflect.Float64:
		x.Kind = Number
	case t.Kind() == reflect.String:
		x.Kind = Text
	default:
		return fmt.Errorf("%v cannot be a fact", t)
	}
	if len(x.Values) > 0 && x.Kind != Text && x.Kind != List {
		return fmt.Errorf("only texts and lists have `values`")
	}
	return nil
}

// Facts lists all facts in the order of their groups and fields.
func (s *Schema) Facts() []Fact {
	facts := make([]Fact, len(s.fields))
	for i, x := range s.fields {
		facts[i] = x.Fact
	}
	return facts
}

// Fact finds a fact by its name.
func (s *Schema) Fact(name string) (Fact, bool) {
	x, ok := s.byName[name]
	if !ok {
		return Fact{}, false
	}
	return x.Fact, true
}

func (s *Schema) names() []string {
	names := make([]string, len(s.fields), len(s.fields)+len(s.aliases))
	for i, x := range s.fields {
		names[i] = x.Name
	}
	return append(names, s.aliases...)
}

// Stages are the names of the stages in order.
func (s *Schema) Stages() []string { return slices.Clone(s.stages) }
