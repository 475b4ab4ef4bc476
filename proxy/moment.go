package proxy

import "time"

// moment is a time by the monotonic clock, in a third of the 24 bytes of a time.Time: sessions that wait hold several.
// The zero moment is none.
type moment int64

var epoch = time.Now().Add(-time.Nanosecond)

// now asks for nothing but the monotonic clock, which takes half of time.Now.
func now() moment { return moment(time.Since(epoch)) }

func momentOf(t time.Time) moment { return moment(t.Sub(epoch)) }

func (m moment) add(d time.Duration) moment { return m + moment(d) }

// since is how long ago m was.
func (m moment) since() time.Duration { return time.Duration(now() - m) }

// until is how long it is to m.
func (m moment) until() time.Duration { return time.Duration(m - now()) }

func (m moment) time() time.Time { return epoch.Add(time.Duration(m)) }
