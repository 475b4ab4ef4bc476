package filters

import "time"

// Breaker is a filter that does not ask somebody for a while who fails again and again.
type Breaker interface {
	// Circuit tells whether he is asked. It is safe for concurrent use.
	Circuit() Circuit
}

// Circuit is how a Breaker stands.
type Circuit struct {
	Open     bool      // nobody is asked
	Failures int       // in a row
	Until    time.Time // when one observation tries again; the zero time where it is not open
}
