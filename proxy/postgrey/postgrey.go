package postgrey

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"gatepost/filters/greylist"
)

const (
	// DefaultDelay is postgrey's own (--delay): what came back later than that has passed.
	DefaultDelay = 300 * time.Second
	// whitelisted is how often a client passes until postgrey lets it in at once (--auto-whitelist-clients).
	whitelisted = 5
)

// Pass reads an entry of either database. ok is false for what has not passed, known for what is an entry at all.
func Pass(key, value string, delay time.Duration) (l greylist.Learned, ok, known bool) {
	one, two, both := strings.Cut(value, ",")
	first, err := strconv.ParseInt(one, 10, 64)
	last, err2 := strconv.ParseInt(two, 10, 64)
	client, rest, triplet := strings.Cut(key, "/")
	if _, err3 := netip.ParseAddr(client); !both || err != nil || err2 != nil || err3 != nil || last < 0 || last > maxUnix {
		return l, false, false
	}
	l.Client, l.Last = client, time.Unix(last, 0).UTC()
	if !triplet {
		return l, first >= whitelisted, true
	}
	sender, ok := senderOf(rest)
	l.Sender = &sender
	return l, ok && first >= 0 && first <= last && last-first >= int64(delay/time.Second), ok
}

const maxUnix = 1 << 40

// senderOf takes the sender off "sender/recipient". A local-part can have slashes, a domain has none.
func senderOf(pair string) (sender string, ok bool) {
	if strings.HasPrefix(pair, "/") {
		return "", true
	}
	if at := strings.IndexByte(pair, '@'); at >= 0 {
		if end := strings.IndexByte(pair[at:], '/'); end >= 0 {
			return pair[:at+end], true
		}
	}
	sender, _, ok = strings.Cut(pair, "/") // one without a domain
	return sender, ok
}
