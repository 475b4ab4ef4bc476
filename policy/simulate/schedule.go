package simulate

import (
	"math/rand/v2"
	"time"
)

// Schedule is when a mail server tries again.
type Schedule struct {
	Name   string
	Source string // where it is published, or what is assumed
	// After is for how long it waits after its attempt number n, the first being 1, when the message is so old.
	After  func(r *rand.Rand, n int, age time.Duration) time.Duration
	GiveUp time.Duration
}

// within is a moment of a span, as where a queue run falls.
func within(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)))
}

func doubling(first, most time.Duration, n int) time.Duration {
	return min(first<<min(n-1, 10), most)
}

// The schedules. Where only bounds are published, the moment between them is drawn.
var (
	postfix = &Schedule{
		Name:   "Postfix",
		Source: "postconf(5): minimal_backoff_time 300s, maximal_backoff_time 4000s, queue_run_delay 300s, maximal_queue_lifetime 5d",
		After: func(r *rand.Rand, _ int, age time.Duration) time.Duration {
			return min(max(age, 300*time.Second), 4000*time.Second) + within(r, 0, 300*time.Second)
		},
		GiveUp: 5 * 24 * time.Hour,
	}
	exim = &Schedule{
		Name:   "Exim",
		Source: "its default configuration: F,2h,15m; G,16h,1h,1.5; F,4d,6h; queue runs every 30 minutes (Debian: QUEUEINTERVAL)",
		After: func(r *rand.Rand, n int, age time.Duration) time.Duration {
			wait := 15 * time.Minute
			if age >= 2*time.Hour {
				wait = doubling(time.Hour, 6*time.Hour, max(n-4, 1))
			}
			return wait + within(r, 0, 30*time.Minute)
		},
		GiveUp: 4 * 24 * time.Hour,
	}
	sendmail = &Schedule{
		Name:   "sendmail",
		Source: "Installation and Operation Guide: queue runs as -q30m; Timeout.queuereturn 5d",
		After: func(r *rand.Rand, n int, _ time.Duration) time.Duration {
			if n == 1 {
				return within(r, 0, 30*time.Minute)
			}
			return 30 * time.Minute
		},
		GiveUp: 5 * 24 * time.Hour,
	}
	exchange = &Schedule{
		Name:   "Exchange",
		Source: "TransportServer.MessageRetryInterval, default 15 minutes; MessageExpirationTimeout 2d",
		After: func(r *rand.Rand, _ int, _ time.Duration) time.Duration {
			return 15*time.Minute + within(r, 0, 30*time.Second)
		},
		GiveUp: 2 * 24 * time.Hour,
	}
	gmail = &Schedule{
		Name:   "Gmail",
		Source: "not published; assumed: after 4 to 8 minutes, then twice as long each time, from another address",
		After: func(r *rand.Rand, n int, _ time.Duration) time.Duration {
			return doubling(within(r, 4*time.Minute, 8*time.Minute), 4*time.Hour, n)
		},
		GiveUp: 3 * 24 * time.Hour,
	}
	ses = &Schedule{
		Name:   "SES",
		Source: "published: for 840 minutes (MaxDeliverySeconds); the intervals are not, assumed: 3 to 10 minutes, doubling to an hour",
		After: func(r *rand.Rand, n int, _ time.Duration) time.Duration {
			return doubling(within(r, 3*time.Minute, 10*time.Minute), time.Hour, n)
		},
		GiveUp: 840 * time.Minute,
	}
)

// Schedules are all of them.
func Schedules() []*Schedule { return []*Schedule{postfix, exim, sendmail, exchange, gmail, ses} }

// single draws the software of a server of its own; the shares are assumptions.
func single(r *rand.Rand) *Schedule {
	switch n := r.IntN(100); {
	case n < 45:
		return postfix
	case n < 75:
		return exim
	case n < 85:
		return sendmail
	default:
		return exchange
	}
}
