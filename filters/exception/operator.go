package exception

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"gatepost/filters"
)

const (
	// maxEntries bounds the exceptions, which are all in memory.
	maxEntries = 10_000
	// maxSpan is how long an exception may last. What is meant for good belongs into a list file or a rule.
	maxSpan = 366 * 24 * time.Hour
	// maxWhy is how many bytes a reason may have.
	maxWhy = 120
	// maxBy bounds the name of who made it.
	maxBy = 64
)

// Request is what an operator wants.
type Request struct {
	Action Action           `json:"action"`
	Kind   Kind             `json:"kind,omitempty"` // empty: what the form of Value tells
	Value  string           `json:"value"`
	For    filters.Duration `json:"for,omitempty"`
	Why    string           `json:"why,omitempty"`
}

// Add makes an exception, in the place of an older one about the same. by names who wants it.
func (f *Filter) Add(ctx context.Context, r Request, by string) (*Entry, error) {
	e, err := f.entry(r, by)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.read(ctx); err != nil {
		return nil, err
	}
	if f.index.Load().count >= maxEntries {
		return nil, fmt.Errorf("there are %d exceptions already; write those that are meant for good into a list file or a rule", maxEntries)
	}
	// The new one first: were the old one removed first and the process killed, none would be left.
	if err := f.store.Pass(ctx, space, []string{e.key()}, time.Duration(r.For)); err != nil {
		return nil, err
	}
	if err := f.forget(ctx, e.Kind, e.Value, e.key()); err != nil {
		return nil, err
	}
	e.Added = f.clock.Now()
	e.Expires = e.Added.Add(time.Duration(r.For))
	return e, f.read(ctx)
}

// Remove ends the exceptions about the value of r that do r.Action, and returns how many there were.
func (f *Filter) Remove(ctx context.Context, r Request) (int, error) {
	kind, value, err := f.target(r.Kind, r.Value)
	if err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	keys, err := f.keys(ctx, func(e *Entry) bool { return e.Action == r.Action && e.Kind == kind && e.Value == value })
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	n, err := f.store.Forget(ctx, space, keys)
	return n, errors.Join(err, f.read(ctx))
}

// List returns the exceptions that do action, those of all kinds, those that end first at the head.
func (f *Filter) List(ctx context.Context, action Action) ([]*Entry, error) {
	var list []*Entry
	err := f.store.Range(ctx, space, string(action)+separator, func(key string, m filters.Mark) bool {
		if e, ok := parseKey(key); ok {
			e.Added, e.Expires = m.Passed, m.Expires
			list = append(list, e)
		}
		return len(list) < 2*maxEntries
	})
	slices.SortFunc(list, func(a, b *Entry) int {
		return cmp.Or(a.Expires.Compare(b.Expires), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value))
	})
	return list, err
}

// forget removes what there is about a value, but for one key. f.mu is held.
func (f *Filter) forget(ctx context.Context, kind Kind, value, except string) error {
	keys, err := f.keys(ctx, func(e *Entry) bool { return e.Kind == kind && e.Value == value && e.key() != except })
	if err != nil || len(keys) == 0 {
		return err
	}
	_, err = f.store.Forget(ctx, space, keys)
	return err
}

func (f *Filter) keys(ctx context.Context, match func(e *Entry) bool) (keys []string, err error) {
	err = f.store.Range(ctx, space, "", func(key string, _ filters.Mark) bool {
		if e, ok := parseKey(key); ok && match(e) {
			keys = append(keys, key)
		}
		return len(keys) < 100
	})
	return keys, err
}

// entry checks what an operator wants.
func (f *Filter) entry(r Request, by string) (*Entry, error) {
	kind, value, err := f.target(r.Kind, r.Value)
	switch {
	case err != nil:
		return nil, err
	case r.Action != Allow && r.Action != Block:
		return nil, fmt.Errorf("%q is neither allow nor block", r.Action)
	case r.For <= 0:
		return nil, errors.New("say for how long, such as 30d")
	case time.Duration(r.For) > maxSpan:
		return nil, fmt.Errorf("an exception lasts %s at most; write what is meant for good into a list file or a rule", filters.Duration(maxSpan))
	case len(r.Why) > maxWhy || !isPlain(r.Why):
		return nil, fmt.Errorf("the reason is a line of at most %d bytes", maxWhy)
	}
	if len(by) > maxBy || !isPlain(by) || by == "" {
		by = "unknown"
	}
	e := &Entry{Action: r.Action, Kind: kind, Value: value, By: by, Why: r.Why}
	if len(e.key()) > maxKey {
		return nil, errors.New("value and reason are too long together; shorten the reason")
	}
	return e, nil
}

// isPlain tells text that can be shown on a terminal and kept in a key.
func isPlain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// target finds what an exception is about. Without a kind the form tells: an address or network of IP is a client, and
// a mail address or domain is a recipient where it is one of ours, else a sender.
func (f *Filter) target(kind Kind, text string) (Kind, string, error) {
	text = strings.TrimSpace(text)
	network, notNetwork := parseNetwork(text)
	if kind == Client || kind == "" && notNetwork == nil {
		if notNetwork != nil {
			return "", "", notNetwork
		}
		return Client, network.String(), nil
	}
	value, domain, err := parseAddress(text)
	switch {
	case err != nil:
		return "", "", err
	case kind != "" && kind != Sender && kind != Recipient:
		return "", "", fmt.Errorf("%q is no kind: client, sender or recipient", kind)
	case kind == "" && f.isOurs(domain):
		kind = Recipient
	case kind == "":
		kind = Sender
	}
	return kind, value, nil
}

func (f *Filter) isOurs(domain string) bool {
	return slices.ContainsFunc(f.domains, func(ours string) bool {
		ours = strings.ToLower(ours)
		return domain == ours || strings.HasPrefix(ours, ".") && strings.HasSuffix(domain, ours)
	})
}

// parseNetwork reads an address or a network. A network of everybody is refused: it would be a slip of the pen.
func parseNetwork(text string) (netip.Prefix, error) {
	text = strings.Trim(text, "[]")
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%q is not an IP address or a network such as 192.0.2.0/24", text)
	case prefix.Masked() != prefix:
		return netip.Prefix{}, fmt.Errorf("%s has host bits set; the network is %s", text, prefix.Masked())
	case prefix.Bits() < 4:
		return netip.Prefix{}, fmt.Errorf("%s is nearly everybody", text)
	}
	return prefix, nil
}

// isQuoted tells whether a local part may hold white space (RFC 5321, 4.1.2).
func isQuoted(local string) bool { return strings.HasPrefix(local, `"`) }

// parseAddress reads user@example.org, example.org or .example.org. What it returns is folded.
func parseAddress(text string) (value, domain string, err error) {
	text = strings.TrimSuffix(strings.TrimPrefix(text, "<"), ">")
	text = strings.TrimPrefix(text, "@") // @example.org, as in list files
	local, domain, isAddress := cutLast(text, '@')
	if !isAddress {
		domain = text
	}
	name, below := strings.CutPrefix(domain, ".")
	ascii, ok := filters.ASCIIName(strings.TrimSuffix(name, "."))
	switch {
	case !ok || isAddress && (below || !isQuoted(local) && strings.ContainsAny(local, " \t<>@")) || !isAddress && !below && !strings.Contains(ascii, "."):
		return "", "", fmt.Errorf("%q is not a client address, a network, a mail address or a domain such as example.org or .example.org", text)
	case isAddress && (local == "" || len(text) > 256 || !isPlain(local)): // RFC 5321, 4.5.3.1.3
		return "", "", fmt.Errorf("%q is not a mail address", text)
	case isAddress:
		return fold(text), ascii, nil
	case below:
		return "." + ascii, ascii, nil
	}
	return ascii, ascii, nil
}
