package resolver

import (
	"context"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Examination is how one DNS server has answered, for who wants to know whether it is fit for a mail server.
type Examination struct {
	// Server is where it was asked.
	Server netip.AddrPort
	// Err is why there was no useful answer over UDP.
	Err error
	// Took is the time of the second answer to the same question, which a recursive server has in its cache.
	Took time.Duration
	// Recurses tells whether it looks up for us what it does not know itself (RA).
	Recurses bool
	// Validates tells whether it says of a signed answer that the signature is good (AD; RFC 6840, 5.8).
	Validates bool
	// TCP is why the same question had no answer over TCP, which long answers need (RFC 7766).
	TCP error
}

// Examine asks every server of a valid configuration at the same time for the name servers of arpa, which every recursive
// server can answer and which are signed. It ends with ctx.
func Examine(ctx context.Context, c Config) ([]Examination, error) {
	addresses, err := serverAddresses(c, resolvConf)
	if err != nil {
		return nil, err
	}
	found := make([]Examination, len(addresses))
	var asking sync.WaitGroup
	for i, a := range addresses {
		asking.Go(func() { found[i] = examine(ctx, a, time.Duration(c.Timeout)) })
	}
	asking.Wait()
	return found, nil
}

const (
	flagRecursion     = 1 << 7 // RA
	flagAuthenticated = 1 << 5 // AD
	maskRcode         = 0xf
)

func examine(ctx context.Context, address netip.AddrPort, timeout time.Duration) Examination {
	r, s, x := &Resolver{Metrics: &Metrics{}}, &server{address: address.String()}, Examination{Server: address}
	q := newQuery("arpa", dns.TypeNS)
	q.message[3] |= flagAuthenticated // RFC 6840, 5.7: it asks for validation; with DO the signatures would come along
	ask := func(over func(until time.Time) ([]byte, error)) (flags uint16, err error) {
		reply, err := over(time.Now().Add(timeout))
		if err != nil {
			return 0, err
		}
		flags = binary.BigEndian.Uint16(reply[2:])
		if rcode := int(flags & maskRcode); rcode != dns.RcodeSuccess {
			return flags, serverError{rcode}
		}
		return flags, nil
	}
	udp := func(until time.Time) ([]byte, error) {
		var buffer [bufferSize]byte
		return r.overUDP(ctx, until, s, q, buffer[:])
	}
	flags, err := ask(udp)
	if x.Err = err; err != nil {
		return x
	}
	x.Recurses, x.Validates = flags&flagRecursion != 0, flags&flagAuthenticated != 0
	start := time.Now()
	if _, err := ask(udp); err == nil {
		x.Took = time.Since(start)
	}
	_, x.TCP = ask(func(until time.Time) ([]byte, error) { return r.overTCP(ctx, until, s, q) })
	return x
}
