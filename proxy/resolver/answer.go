package resolver

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"gatepost/filters"
)

// answer is what a question came to: values of one type, nothing, or an error. It is never written after it was made.
type answer struct {
	addresses  []netip.Addr // A, AAAA
	texts      []string     // TXT, PTR
	exchangers []filters.MX
	err        error
	ttl        time.Duration
	size       int // bytes in memory, about
}

// maxAliases bounds a chain of CNAME records within one answer.
const maxAliases = 10

var errAliases = errors.New("the aliases (CNAME) do not end")

// serverError is an answer that another server might not give.
type serverError struct{ rcode int }

func (e serverError) Error() string {
	if name, ok := dns.RcodeToString[e.rcode]; ok {
		return "the server says " + name
	}
	return fmt.Sprintf("the server says RCODE %d", e.rcode)
}

// readAnswer makes an answer out of a message that is a reply to the question. An error says that the server could not
// tell; filters.ErrNXDomain is not among them, it is an answer.
func readAnswer(message []byte, k key) (*answer, error) {
	var m dns.Msg
	if err := m.Unpack(message); err != nil {
		return nil, fmt.Errorf("a malformed answer: %w", err)
	}
	if len(m.Question) != 1 {
		return nil, errors.New("a malformed answer: no question in it")
	}
	switch m.Rcode {
	case dns.RcodeNameError:
		a := failed(k, filters.ErrNXDomain)
		a.ttl = negativeTTL(&m)
		return a, nil
	case dns.RcodeSuccess:
	default:
		return nil, serverError{m.Rcode}
	}
	owner, ttl, err := endOfAliases(&m, k.qtype)
	if err != nil {
		return nil, err
	}
	a := &answer{ttl: ttl}
	for _, rr := range m.Answer {
		if h := rr.Header(); owns(h, owner, k.qtype) {
			a.add(rr)
			a.ttl = min(a.ttl, seconds(h.Ttl))
		}
	}
	if len(a.addresses)+len(a.texts)+len(a.exchangers) == 0 {
		a.ttl = negativeTTL(&m)
	}
	a.ttl = min(max(a.ttl, minTTL), maxTTL)
	return a, nil
}

// endOfAliases follows CNAME records from the question's name to the name that has records of the type, or to the
// last. Records of names off this chain do not count.
func endOfAliases(m *dns.Msg, qtype uint16) (owner string, ttl time.Duration, err error) {
	owner, ttl = m.Question[0].Name, maxTTL
	for range maxAliases {
		var alias *dns.CNAME
		for _, rr := range m.Answer {
			if owns(rr.Header(), owner, qtype) {
				return owner, ttl, nil
			}
			if c, ok := rr.(*dns.CNAME); ok && alias == nil && owns(rr.Header(), owner, dns.TypeCNAME) {
				alias = c
			}
		}
		if alias == nil {
			return owner, ttl, nil
		}
		owner, ttl = alias.Target, min(ttl, seconds(alias.Hdr.Ttl))
	}
	return "", 0, errAliases
}

func owns(h *dns.RR_Header, owner string, qtype uint16) bool {
	return h.Rrtype == qtype && h.Class == dns.ClassINET && strings.EqualFold(h.Name, owner)
}

func (a *answer) add(rr dns.RR) {
	switch rr := rr.(type) {
	case *dns.A:
		if ip, ok := netip.AddrFromSlice(rr.A.To4()); ok {
			a.addresses = append(a.addresses, ip)
			a.size += 24
		}
	case *dns.AAAA:
		if ip, ok := netip.AddrFromSlice(rr.AAAA.To16()); ok {
			a.addresses = append(a.addresses, ip)
			a.size += 24
		}
	case *dns.TXT:
		a.addText(unescape(strings.Join(rr.Txt, "")))
	case *dns.PTR:
		a.addText(strings.TrimSuffix(rr.Ptr, "."))
	case *dns.MX:
		host := strings.TrimSuffix(rr.Mx, ".")
		a.exchangers = append(a.exchangers, filters.MX{Preference: rr.Preference, Host: host})
		a.size += 32 + len(host)
	}
}

func (a *answer) addText(text string) {
	a.texts = append(a.texts, text)
	a.size += 16 + len(text)
}

// negativeTTL is how long "nothing" may be believed (RFC 2308, 5).
func negativeTTL(m *dns.Msg) time.Duration {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(max(seconds(min(soa.Hdr.Ttl, soa.Minttl)), minTTL), maxNegative)
		}
	}
	return minTTL
}

// seconds reads a TTL; one with the highest bit set is 0 (RFC 2181, 8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}

// unescape undoes the presentation form that the library gives to texts: \" \\ and \DDD.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\' || i+1 == len(s):
			b = append(b, s[i])
		case i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]):
			b = append(b, (s[i+1]-'0')*100+(s[i+2]-'0')*10+(s[i+3]-'0'))
			i += 3
		default:
			i++
			b = append(b, s[i])
		}
	}
	return string(b)
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }
