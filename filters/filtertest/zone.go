package filtertest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"gatepost/filters"
)

// Types of records that stand for a fault. They apply to every type of which the name has no record.
const (
	Timeout  = "TIMEOUT"  // no server answers: a temporary error, at once
	ServFail = "SERVFAIL" // a temporary error, at once
	Silent   = "SILENT"   // no server answers: a temporary error when the context ends
)

var (
	errTimeout  = errors.New("no server answered")
	errServFail = errors.New("server failure")
	errLoop     = errors.New("too many aliases")
)

// maxAliases bounds a chain of CNAME records.
const maxAliases = 10

// maxCounted bounds the names whose queries are counted one by one.
const maxCounted = 10_000

// Record is one record of a [Zone].
type Record struct {
	Type       string // A, AAAA, TXT, MX, PTR, CNAME, or a fault
	Value      string // address, text, or name without the final dot
	Preference uint16 // of an MX
}

// Zone is a [filters.Resolver] that answers from memory. Names that only have others below them exist, "*.name" is a
// wildcard (RFC 4592), aliases are followed. It is safe for concurrent use.
type Zone struct {
	mu      sync.Mutex // guards all below
	records map[string][]Record
	queries int
	counts  map[string]int // by "TYPE name"
}

var _ filters.Resolver = (*Zone)(nil)

// NewZone returns an empty zone: no name exists.
func NewZone() *Zone {
	return &Zone{records: map[string][]Record{}, counts: map[string]int{}}
}

// Add adds one record. value is in the form that zone files have ("10 mx.example.org" for an MX); a PTR's name may be
// an address. A type that nobody asks for (SPF, SOA) only makes the name exist.
func (z *Zone) Add(name, typ, value string) error {
	typ = strings.ToUpper(typ)
	if addr, err := netip.ParseAddr(name); err == nil && typ == "PTR" {
		name = reverseName(addr)
	}
	r, err := newRecord(typ, value)
	if err != nil {
		return fmt.Errorf("%s %s %s: %w", name, typ, value, err)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	key := fold(name)
	z.records[key] = append(z.records[key], r)
	return nil
}

func newRecord(typ, value string) (Record, error) {
	r := Record{Type: typ, Value: value}
	switch typ {
	case "A", "AAAA":
		addr, err := netip.ParseAddr(value)
		if err != nil || addr.Is4() != (typ == "A") || addr.Zone() != "" {
			return r, errors.New("not an address of this type")
		}
	case "MX":
		preference, host, _ := strings.Cut(value, " ")
		n, err := strconv.ParseUint(preference, 10, 16)
		if err != nil {
			return r, errors.New(`not an exchanger such as "10 mx.example.org"`)
		}
		r.Preference, r.Value = uint16(n), strings.TrimSuffix(strings.TrimSpace(host), ".")
	case "PTR", "CNAME":
		r.Value = strings.TrimSuffix(value, ".")
	}
	return r, nil
}

// Remove takes all records of a name away.
func (z *Zone) Remove(name string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.records, fold(name))
}

// Queries is the number of look-ups so far.
func (z *Zone) Queries() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.queries
}

// Asked is the number of look-ups of this type ("TXT") and name so far.
func (z *Zone) Asked(typ, name string) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.counts[typ+" "+fold(name)]
}

// Find returns the records of a name, wildcards applied, and whether the name exists. It counts as no query.
func (z *Zone) Find(name string) (records []Record, exists bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.find(fold(name))
}

func (z *Zone) find(name string) (records []Record, exists bool) {
	if !askable(name) {
		return nil, false
	}
	if z.exists(name) {
		return z.records[name], true
	}
	// RFC 4592, 3.3.1: only the wildcard directly below the closest name that exists counts.
	for rest := name; rest != ""; {
		_, rest, _ = strings.Cut(rest, ".")
		if records, ok := z.records["*."+rest]; ok {
			return records, true
		}
		if z.exists(rest) {
			break
		}
	}
	return nil, false
}

// exists tells whether a name has records, or another name below it has. The root always exists.
func (z *Zone) exists(name string) bool {
	if _, ok := z.records[name]; ok || name == "" {
		return true
	}
	for other := range z.records {
		if strings.HasSuffix(other, name) && strings.HasSuffix(strings.TrimSuffix(other, name), ".") {
			return true
		}
	}
	return false
}

func (z *Zone) count(typ, name string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.queries++
	key := typ + " " + name
	if _, known := z.counts[key]; known || len(z.counts) < maxCounted {
		z.counts[key]++
	}
}

func (z *Zone) lookup(ctx context.Context, typ, name string) ([]Record, error) {
	asked := fold(name)
	z.count(typ, asked)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s %s: %w", typ, name, err)
	}
	for range maxAliases {
		records, exists := z.Find(asked)
		if !exists {
			return nil, fmt.Errorf("%s %s: %w", typ, name, filters.ErrNXDomain)
		}
		found, fault, alias, isAlias := sift(records, typ)
		switch {
		case len(found) > 0:
			return found, nil
		case fault == Silent:
			<-ctx.Done()
			return nil, fmt.Errorf("%s %s: %w", typ, name, ctx.Err())
		case fault == Timeout:
			return nil, fmt.Errorf("%s %s: %w", typ, name, errTimeout)
		case fault == ServFail:
			return nil, fmt.Errorf("%s %s: %w", typ, name, errServFail)
		case !isAlias:
			return nil, nil
		}
		asked = fold(alias)
	}
	return nil, fmt.Errorf("%s %s: %w", typ, name, errLoop)
}

func sift(records []Record, typ string) (found []Record, fault, alias string, isAlias bool) {
	for _, r := range records {
		switch r.Type {
		case typ:
			found = append(found, r)
		case Timeout, ServFail, Silent:
			fault = r.Type
		case "CNAME":
			alias, isAlias = r.Value, true
		}
	}
	return found, fault, alias, isAlias
}

func lookup[T any](ctx context.Context, z *Zone, typ, name string, value func(Record) T) ([]T, error) {
	records, err := z.lookup(ctx, typ, name)
	if err != nil || len(records) == 0 {
		return nil, err
	}
	values := make([]T, len(records))
	for i, r := range records {
		values[i] = value(r)
	}
	return values, nil
}

func text(r Record) string          { return r.Value }
func address(r Record) netip.Addr   { return netip.MustParseAddr(r.Value) }
func exchanger(r Record) filters.MX { return filters.MX{Preference: r.Preference, Host: r.Value} }

// LookupA implements [filters.Resolver].
func (z *Zone) LookupA(ctx context.Context, name string) ([]netip.Addr, error) {
	return lookup(ctx, z, "A", name, address)
}

// LookupAAAA implements [filters.Resolver].
func (z *Zone) LookupAAAA(ctx context.Context, name string) ([]netip.Addr, error) {
	return lookup(ctx, z, "AAAA", name, address)
}

// LookupTXT implements [filters.Resolver].
func (z *Zone) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return lookup(ctx, z, "TXT", name, text)
}

// LookupMX implements [filters.Resolver].
func (z *Zone) LookupMX(ctx context.Context, name string) ([]filters.MX, error) {
	return lookup(ctx, z, "MX", name, exchanger)
}

// LookupPTR implements [filters.Resolver].
func (z *Zone) LookupPTR(ctx context.Context, ip netip.Addr) ([]string, error) {
	return lookup(ctx, z, "PTR", reverseName(ip), text)
}

// fold brings a name into the form of the zone's keys.
func fold(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// askable tells whether a folded name fits into a query (RFC 1035, 2.3.4); the root does.
func askable(name string) bool {
	if name == "" {
		return true
	}
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	return true
}

// reverseName is the name that LookupPTR asks for: octets or nibbles backwards (RFC 1035, 3.5; RFC 3596, 2.5).
func reverseName(ip netip.Addr) string {
	ip = ip.Unmap()
	var b strings.Builder
	bytes := ip.AsSlice()
	for i := len(bytes) - 1; i >= 0; i-- {
		if ip.Is4() {
			fmt.Fprintf(&b, "%d.", bytes[i])
		} else {
			fmt.Fprintf(&b, "%x.%x.", bytes[i]&15, bytes[i]>>4)
		}
	}
	if ip.Is4() {
		return b.String() + "in-addr.arpa"
	}
	return b.String() + "ip6.arpa"
}
