package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/pires/go-proxyproto"

	"gatepost/filters"
)

// maxProxyHeader bounds a version 2 header with its TLVs. HAProxy's own buffer for it is 16 KiB, of which it uses a
// few hundred bytes; version 1 has 107 at most.
const maxProxyHeader = 4 << 10

var errNoProxyHeader = errors.New("no PROXY header")

func (s *session) waitForHeader() wait {
	limit := time.Duration(s.service.Limits.HandshakeTimeout) - s.since.since()
	return wait{input: true, again: true, limit: max(limit, 0)}
}

// readHeader reads the PROXY header of a listed peer; most are there when the connection is accepted, and cost no wait. A
// connection from there without one is refused: its client would be taken for the load balancer, which is likely to be
// trusted.
func (s *session) readHeader(why wake) (w wait, waits bool) {
	switch why {
	case wakeTime:
		return s.noHeader(errors.New("nothing came")), true
	case wakeShutdown:
		return s.turnAway("4.3.2", "Shutting down, please try again"), true
	}
	if _, err := s.read(); err != nil && !errors.Is(err, errAgain) {
		return s.left(endLeftBeforeHeader), true // a health check
	}
	n, err := proxyHeaderLength(s.b.unread())
	switch {
	case err != nil:
		return s.noHeader(err), true
	case n == 0:
		return s.waitForHeader(), true
	}
	header, err := proxyproto.Read(newHeaderReader(s.b.unread()[:n]))
	if err != nil {
		return s.noHeader(err), true
	}
	s.b.r += n
	peer, client, local := s.info.AddrPort(), s.info.AddrPort(), s.info.To
	// LOCAL (v2) and UNKNOWN (v1) are the peer's own connections.
	if header.Command == proxyproto.PROXY && header.TransportProtocol.IsStream() {
		from, to := addrPort(header.SourceAddr), addrPort(header.DestinationAddr)
		if from.IsValid() {
			client, local = from, &to
		}
	}
	info := &filters.Session{Client: filters.ClientAt(client), To: local}
	if client != peer {
		info.Through = &peer
	}
	s.introduce(info)
	s.phase = s.firstPhase()
	return wait{}, false
}

// newHeaderReader gives the library a whole header and nothing else.
func newHeaderReader(header []byte) *bufio.Reader {
	return bufio.NewReaderSize(bytes.NewReader(header), len(header))
}

func (s *session) noHeader(err error) wait {
	s.log().Warn("a peer under proxy_from sent no PROXY header that can be used", "error", err)
	s.note = endNoHeader
	s.hangUp(421, "4.3.0", "No usable PROXY header")
	return s.finish()
}

// proxyHeaderLength is the length of the header at the start of input, 0 if it is not complete.
func proxyHeaderLength(input []byte) (int, error) {
	const fixed, v1Longest = 16, 107
	switch {
	case isPrefix(input, proxyproto.SIGV2):
		if len(input) < fixed {
			return 0, nil
		}
		n := fixed + int(input[14])<<8 + int(input[15])
		if n > maxProxyHeader {
			return 0, fmt.Errorf("PROXY header of %d bytes is longer than %d", n, maxProxyHeader)
		}
		if len(input) < n {
			return 0, nil
		}
		return n, nil
	case isPrefix(input, []byte("PROXY ")):
		end := bytes.IndexByte(input[:min(len(input), v1Longest)], '\n')
		switch {
		case end >= 0:
			return end + 1, nil
		case len(input) >= v1Longest:
			return 0, fmt.Errorf("PROXY header line is longer than %d bytes", v1Longest)
		}
		return 0, nil
	}
	return 0, errNoProxyHeader
}

// isPrefix tells whether one of the two starts with the other.
func isPrefix(input, signature []byte) bool {
	n := min(len(input), len(signature))
	return bytes.Equal(input[:n], signature[:n])
}
