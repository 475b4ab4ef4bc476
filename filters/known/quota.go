package known

import (
	"sync"
	"time"
)

// maxQuotas bounds who is counted in a window; all others are one.
const maxQuotas = 20_000

// quota counts what somebody has used in the current window.
type quota struct {
	window time.Duration

	mu    *sync.Mutex // guards begun, spent
	begun time.Time
	spent map[string]int
}

func newQuota(window time.Duration) quota {
	return quota{window: window, mu: &sync.Mutex{}, spent: map[string]int{}}
}

// take takes one of limit, if there is one left.
func (q *quota) take(who string, limit int, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if age := now.Sub(q.begun); age >= q.window || age < 0 {
		q.begun = now
		clear(q.spent)
	}
	if _, counted := q.spent[who]; !counted && len(q.spent) >= maxQuotas {
		who = ""
	}
	if q.spent[who] >= limit {
		return false
	}
	q.spent[who]++
	return true
}
