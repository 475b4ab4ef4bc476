package ratelimit

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatepost/filters"
)

// Config is the section `ratelimit:`.
type Config struct {
	// Limits are checked in this order; a fact names the first that is exceeded. Naming any replaces the defaults.
	Limits []Limit `yaml:"limits"`
}

// Limit says how often something may happen.
type Limit struct {
	// Name is what the facts say when the limit is exceeded: letters, digits, "-" and "_".
	Name string `yaml:"name"`
	// Count is what is counted: connections, messages, recipients, refused (recipients answered with 5xx), abandoned
	// (transactions that the client gave up without a reason of ours), or bytes (of messages).
	Count string `yaml:"count"`
	// Per is for whom it is counted: client (network), sender_domain, or recipient.
	Per string `yaml:"per"`
	// Rate is how many are allowed in the long run, per time.
	Rate Rate `yaml:"rate"`
	// Burst is how many may come at once after a pause. Default: the amount of the rate.
	Burst Amount `yaml:"burst"`
	// IPv4Prefix is the length of the client networks that share a limit, in bits. Default: 32.
	IPv4Prefix int `yaml:"ipv4_prefix"`
	// IPv6Prefix is the same for IPv6. Default: 64.
	IPv6Prefix int `yaml:"ipv6_prefix"`
}

// Defaults returns limits that no legitimate sender to a small company meets; who exceeds one is told to come back.
func Defaults() Config {
	limit := func(name, count string, n int64, per time.Duration, burst int64) Limit {
		bytes := count == countBytes
		return Limit{
			Name: name, Count: count, Per: perClient,
			Rate:  Rate{Amount: Amount{N: n, Bytes: bytes}, Per: filters.Duration(per)},
			Burst: Amount{N: burst, Bytes: bytes},
		}
	}
	return Config{Limits: []Limit{
		limit("connections", countConnections, 120, time.Minute, 300),
		limit("messages", countMessages, 2000, time.Hour, 2000),
		limit("recipients", countRecipients, 10_000, time.Hour, 10_000),
		limit("unknown-recipients", countRefused, 60, time.Hour, 60),
		limit("abandoned", countAbandoned, 600, time.Hour, 600),
		limit("bytes", countBytes, 5<<30, time.Hour, 5<<30),
	}}
}

const (
	countConnections = "connections"
	countMessages    = "messages"
	countRecipients  = "recipients"
	countRefused     = "refused"
	countAbandoned   = "abandoned"
	countBytes       = "bytes"

	perClient       = "client"
	perSenderDomain = "sender_domain"
	perRecipient    = "recipient"
)

// possible tells for whom each count can be kept: when it is checked, that must be known.
var possible = map[string][]string{
	countConnections: {perClient},
	countMessages:    {perClient, perSenderDomain},
	countRecipients:  {perClient, perSenderDomain, perRecipient},
	countRefused:     {perClient, perSenderDomain},
	countAbandoned:   {perClient, perSenderDomain},
	countBytes:       {perClient, perSenderDomain},
}

var limitName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

const maxLimits = 100

// Validate names every value that cannot be.
func (c *Config) Validate() error {
	var bad filters.KeyErrors
	if len(c.Limits) > maxLimits {
		bad.Add("limits", "%d are more than %d", len(c.Limits), maxLimits)
	}
	names := map[string]bool{}
	for i := range c.Limits {
		c.Limits[i].validate(key(i), &bad)
		if names[c.Limits[i].Name] {
			bad.Add(key(i)+".name", "%q is the name of an earlier limit", c.Limits[i].Name)
		}
		names[c.Limits[i].Name] = true
	}
	return bad.OrNil()
}

func key(i int) string { return "limits[" + strconv.Itoa(i) + "]" }

func (l *Limit) validate(key string, bad *filters.KeyErrors) {
	if !limitName.MatchString(l.Name) {
		bad.Add(key+".name", "%q is not a name of 1 to 64 letters, digits, - and _", l.Name)
	}
	switch owners, known := possible[l.Count]; {
	case !known:
		bad.Add(key+".count", "%q is not connections, messages, recipients, refused, abandoned or bytes", l.Count)
	case !slices.Contains(owners, l.Per):
		bad.Add(key+".per", "%q is not for whom %s can be counted: %s", l.Per, l.Count, strings.Join(owners, ", "))
	}
	if l.Rate.Amount.N < 1 {
		bad.Add(key+".rate", "a rate such as 60/1m is missing")
	}
	if l.Count != countBytes && (l.Rate.Amount.Bytes || l.Burst.Bytes) {
		bad.Add(key+".rate", "%s are not counted in bytes", l.Count)
	}
	if l.Burst.N > math.MaxInt32 && l.Count != countBytes {
		bad.Add(key+".burst", "%d is more than %d", l.Burst.N, math.MaxInt32)
	}
	if l.IPv4Prefix < 0 || l.IPv4Prefix > 32 {
		bad.Add(key+".ipv4_prefix", "%d is not between 1 and 32", l.IPv4Prefix)
	}
	if l.IPv6Prefix < 0 || l.IPv6Prefix > 128 {
		bad.Add(key+".ipv6_prefix", "%d is not between 1 and 128", l.IPv6Prefix)
	}
}
