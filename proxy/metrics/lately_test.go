package metrics

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/policy"
)

func TestLately(t *testing.T) {
	r := newRecorder(t)
	start := time.Now()
	l := NewLately(r, start)
	fail := func(n int, took time.Duration) {
		for range n {
			r.filter(&policy.FilterRecord{Name: "spf", Status: "error", Duration: took})
		}
	}
	spf := func(now time.Time) (FilterCounts, time.Duration) {
		list, span := l.Filters(now)
		for _, f := range list {
			if f.Name == "spf" {
				return f, span
			}
		}
		t.Fatal("no spf")
		return FilterCounts{}, 0
	}
	fail(3, time.Millisecond)
	if f, span := spf(start.Add(time.Minute)); f.Error != 3 || span != time.Minute || f.Duration.Count() != 3 || f.Duration.Within(0.5) != time.Millisecond {
		t.Errorf("%+v %s", f, span)
	}
	for i := range sampleCount {
		l.note(start.Add(time.Duration(i+1) * time.Minute))
	}
	fail(1, time.Second)
	if f, span := spf(start.Add(10 * time.Minute)); f.Error != 1 || span != 9*time.Minute || f.Duration.Sum != time.Second || f.Duration.Within(0.99) != time.Second {
		t.Errorf("%+v %s", f, span)
	}
	if len(l.notes) != sampleCount {
		t.Error(len(l.notes))
	}
}

func TestLatelyNotesEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLately(newRecorder(t), time.Now())
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); l.Run(ctx) }()
		time.Sleep(3*samplePause + time.Second)
		l.mu.Lock()
		notes := len(l.notes)
		l.mu.Unlock()
		if notes != 4 {
			t.Error(notes)
		}
		stop()
		<-ended
	})
}

// A filter that is there several times is counted under each name that the configuration gives it.
func TestInstancesOfAFilterAreCounted(t *testing.T) {
	r := newRecorder(t)
	r.filter(&policy.FilterRecord{Name: "milter.rspamd", Status: "timeout", Duration: time.Second})
	r.filter(&policy.FilterRecord{Name: "milter.rspamd", Status: "ok", Duration: time.Second})
	for _, f := range r.Filters() {
		if f.Name == "milter.rspamd" {
			if f.OK != 1 || f.Timeout != 1 || f.Duration.Count() != 2 {
				t.Errorf("%+v", f)
			}
			return
		}
	}
	t.Error("it is not")
}
