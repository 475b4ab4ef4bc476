package greylist

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"gatepost/filters"
)

// Entry is a mark in an operator's terms.
type Entry struct {
	Key      string                `json:"key"`
	Network  string                `json:"network,omitempty"`
	Hosts    string                `json:"hosts,omitempty"`  // their names end so
	Sender   string                `json:"sender,omitempty"` // folded
	Domain   string                `json:"domain,omitempty"`
	State    filters.GreylistState `json:"state"`
	First    time.Time             `json:"first"`
	Last     time.Time             `json:"last"`
	Passed   time.Time             `json:"passed,omitzero"`
	Expires  time.Time             `json:"expires"`
	Attempts uint32                `json:"attempts"`
}

// List calls yield for every mark that the query is about, until it returns false. A query is any of, or two together:
//
//	192.0.2.7, 2001:db8::1        the client's network
//	192.0.2.0/24, 10.0.0.0/8      all networks in it
//	alice@example.org, <>         a sender, and the domain that vouches for it
//	example.org                   a domain and its senders
//	d:…, n:…, h:…, p:…, o:…       keys that begin so
//
// The empty query is about all. A query without a network reads all marks.
func (f *Filter) List(ctx context.Context, text string, yield func(Entry) bool) error {
	q, err := f.parseQuery(text)
	if err != nil {
		return err
	}
	now := f.clock.Now()
	more := true
	for _, prefix := range q.prefixes(f.config) {
		if !more {
			break
		}
		err := f.store.Range(ctx, space, prefix, func(key string, m filters.Mark) bool {
			e := describe(key)
			if q.matches(&e) {
				e.State = f.stateOf(m, now)
				e.First, e.Last, e.Passed, e.Expires, e.Attempts = m.First, m.Last, m.Passed, m.Expires, m.Attempts
				more = yield(e)
			}
			return more
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Pass lets what the query names pass from now on, as if it had come back: a client's network, a sender, a domain
// (proved or not), or a sender from a network. It returns the key. It is kept as long as any pass.
func (f *Filter) Pass(ctx context.Context, text string) (key string, err error) {
	q, err := f.parseQuery(text)
	if err != nil {
		return "", err
	}
	if key, err = q.key(f.config); err != nil {
		return "", err
	}
	return key, f.store.Pass(ctx, space, []string{key}, time.Duration(f.config.Keep))
}

// Forget removes every mark that List finds, and returns their keys; the senders are new then. The empty query is an
// error.
func (f *Filter) Forget(ctx context.Context, text string) (keys []string, err error) {
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("say what to forget: a client, a network, a sender or a domain")
	}
	err = f.List(ctx, text, func(e Entry) bool {
		keys = append(keys, e.Key)
		return true
	})
	if err != nil {
		return nil, err
	}
	n, err := f.forget(ctx, keys)
	return keys[:n], err
}

// forget removes marks and returns how many of the keys it has come to.
func (f *Filter) forget(ctx context.Context, keys []string) (int, error) {
	for start := 0; start < len(keys); start += forgetAtOnce {
		if _, err := f.store.Forget(ctx, space, keys[start:min(start+forgetAtOnce, len(keys))]); err != nil {
			return start, err
		}
	}
	return len(keys), nil
}

const forgetAtOnce = 100

// query is what an operator asked for. Zero fields ask for nothing.
type query struct {
	raw     string // a key's beginning
	network netip.Prefix
	sender  string // folded
	null    bool   // the null sender
	domain  string // of the sender, too
}

func (f *Filter) parseQuery(text string) (q query, err error) {
	text = strings.TrimSpace(text)
	for _, kind := range keyKinds {
		if strings.HasPrefix(text, kind) {
			return query{raw: text}, nil
		}
	}
	for _, word := range strings.Fields(text) {
		isSender := strings.ContainsRune(word, '@') || word == "<>"
		prefix, isNetwork := f.parseNetwork(word)
		switch {
		case isNetwork && !q.network.IsValid():
			q.network = prefix
		case isSender && q.domain == "" && !q.null:
			address := strings.TrimSuffix(strings.TrimPrefix(word, "<"), ">")
			q.sender, q.null = filters.FoldSender(address), address == ""
			_, q.domain = filters.SplitAddress(address)
		case !isNetwork && !isSender && q.domain == "" && !q.null && looksLikeDomain(word):
			q.domain = normalDomain(word)
		default:
			return q, fmt.Errorf("%q is not a client address, a network, a sender address or a domain, or one too many", word)
		}
	}
	return q, nil
}

// parseNetwork reads an address or a network; what is narrower than the networks of the keys is widened to one.
func (f *Filter) parseNetwork(word string) (netip.Prefix, bool) {
	word = strings.Trim(word, "[]")
	prefix, err := netip.ParsePrefix(word)
	if err != nil {
		addr, err := netip.ParseAddr(word)
		if err != nil {
			return netip.Prefix{}, false
		}
		addr = addr.Unmap().WithZone("")
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if bits := bitsFor(prefix.Addr(), f.config); prefix.Bits() > bits {
		prefix = netip.PrefixFrom(prefix.Addr(), bits)
	}
	return prefix.Masked(), true
}

func bitsFor(addr netip.Addr, c Config) int {
	if addr.Is4() {
		return c.IPv4Prefix
	}
	return c.IPv6Prefix
}

func looksLikeDomain(word string) bool {
	last := word[strings.LastIndexByte(strings.TrimSuffix(word, "."), '.')+1:]
	return strings.Trim(last, "0123456789.") != "" && !strings.ContainsAny(word, `/:|<>"`)
}

// isOneNetwork tells that q names exactly one network of the keys.
func (q *query) isOneNetwork(c Config) bool {
	return q.network.IsValid() && q.network.Bits() == bitsFor(q.network.Addr(), c)
}

// prefixes of the keys that can match.
func (q *query) prefixes(c Config) []string {
	switch {
	case q.raw != "":
		return []string{q.raw}
	case q.isOneNetwork(c):
		return []string{networkKey + q.network.String() + "|", operatorKey + q.network.String()}
	default:
		return keyKinds
	}
}

func (q *query) matches(e *Entry) bool {
	if q.network.IsValid() {
		network, err := netip.ParsePrefix(e.Network)
		if err != nil || q.network.Bits() > network.Bits() || !q.network.Contains(network.Addr()) {
			return false
		}
	}
	switch {
	case q.null:
		return e.Sender == "" && e.Domain == "" && strings.HasPrefix(e.Key, networkKey)
	case q.sender != "" && e.Sender != "":
		return e.Sender == q.sender
	case q.domain != "":
		return e.Domain == q.domain || e.Domain == filters.FoldDomain(q.domain)
	}
	return true
}

// key is the one that Pass writes.
func (q *query) key(c Config) (string, error) {
	hasSender := q.sender != "" || q.null
	switch {
	case q.raw != "":
		return q.raw, nil
	case q.network.IsValid() && !q.isOneNetwork(c):
		return "", fmt.Errorf("%s is wider than the networks that greylisting tells apart (/%d); an exception in the rules takes networks of any size",
			q.network, bitsFor(q.network.Addr(), c))
	case q.network.IsValid() && hasSender:
		return networkKey + q.network.String() + "|" + q.sender, nil
	case q.network.IsValid() && q.domain == "":
		return operatorKey + q.network.String(), nil
	case q.network.IsValid():
		return "", errors.New("a network and a domain cannot pass together; name a sender address, or one of both")
	case q.sender != "":
		return operatorKey + q.sender, nil
	case q.domain != "":
		return operatorKey + q.domain, nil
	}
	return "", errors.New("say what shall pass: a client, a network, a sender or a domain")
}

// describe reads a key.
func describe(key string) Entry {
	e := Entry{Key: key}
	rest := key[min(2, len(key)):]
	switch {
	case strings.HasPrefix(key, networkKey):
		e.Network, e.Sender, _ = strings.Cut(rest, "|")
	case strings.HasPrefix(key, hostsKey):
		e.Hosts, e.Sender, _ = strings.Cut(rest, "|")
	case strings.HasPrefix(key, poolKey):
		e.Hosts, e.Domain, _ = strings.Cut(rest, "|")
	case strings.HasPrefix(key, domainKey):
		e.Domain = rest
	case strings.ContainsRune(rest, '@'):
		e.Sender = rest
	case strings.ContainsRune(rest, '/'):
		e.Network = rest
	default:
		e.Domain = rest
	}
	if e.Sender != "" {
		_, e.Domain = filters.SplitAddress(e.Sender)
	}
	return e
}
