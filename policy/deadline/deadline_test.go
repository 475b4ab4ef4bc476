package deadline

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type key struct{}

// Three are made for each client before it waits for the first time; 64 bytes is a size that Go allocates without waste.
func TestSize(t *testing.T) {
	if size := unsafe.Sizeof(Context{}); size > 64 {
		t.Errorf("a context takes %d bytes", size)
	}
}

func TestEnds(t *testing.T) {
	parent, cancelParent := context.WithCancel(context.WithValue(context.Background(), key{}, "value"))
	defer cancelParent()
	gone, cancelGone := context.WithCancel(context.Background())
	cancelGone()
	soon := time.Now().Add(20 * time.Millisecond)
	later := time.Now().Add(time.Hour)
	for _, test := range []struct {
		name   string
		parent context.Context
		at     time.Time
		end    func(*Context)
		want   error
	}{
		{"deadline", parent, soon, func(*Context) { time.Sleep(time.Until(soon)) }, context.DeadlineExceeded},
		{"deadline over before it began", parent, time.Now().Add(-time.Second), func(*Context) {}, context.DeadlineExceeded},
		{"cancel", parent, later, (*Context).Cancel, context.Canceled},
		{"parent gone before", gone, later, func(*Context) {}, context.Canceled},
		{"parent", parent, later, func(*Context) { cancelParent() }, context.Canceled},
	} {
		waited, unwaited := New(test.parent, test.at), New(test.parent, test.at)
		done := waited.Done()
		test.end(waited)
		test.end(unwaited)
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: not done", test.name)
		}
		for _, c := range []*Context{waited, unwaited} {
			if err := c.Err(); !errors.Is(err, test.want) {
				t.Errorf("%s: %v", test.name, err)
			}
			c.Cancel()
			if err := c.Err(); !errors.Is(err, test.want) {
				t.Errorf("%s: %v after Cancel", test.name, err)
			}
			select {
			case <-c.Done():
			default:
				t.Errorf("%s: Done asked for after the end is not closed", test.name)
			}
		}
	}
}

// Contexts made from one hang on it without a goroutine, whether somebody waited before or not.
func TestChildren(t *testing.T) {
	parent := context.WithValue(context.Background(), key{}, "value")
	for _, waitFirst := range []bool{true, false} {
		c := New(parent, time.Now().Add(time.Hour))
		if waitFirst {
			c.Done()
		}
		before := runtime.NumGoroutine()
		child, cancel := context.WithTimeout(c, time.Minute)
		defer cancel()
		called := make(chan struct{})
		stop := context.AfterFunc(c, func() { close(called) })
		defer stop()
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("%d goroutines, %d before", n, before)
		}
		if child.Value(key{}) != "value" || c.Value(key{}) != "value" {
			t.Error("the parent's value is lost")
		}
		c.Cancel()
		<-child.Done()
		<-called
		if context.Cause(child) != context.Canceled {
			t.Errorf("cause: %v", context.Cause(child))
		}
	}
}

func TestParentsDeadlineCounts(t *testing.T) {
	first := time.Now().Add(time.Minute)
	parent, cancel := context.WithDeadline(context.Background(), first)
	defer cancel()
	c := New(parent, first.Add(time.Hour))
	defer c.Cancel()
	if at, ok := c.Deadline(); !ok || !at.Equal(first) {
		t.Errorf("deadline %v, want %v", at, first)
	}
}

func TestAllocates(t *testing.T) {
	parent, cancel := context.WithCancel(context.Background())
	defer cancel()
	at := time.Now().Add(time.Hour)
	n := testing.AllocsPerRun(100, func() {
		c := New(parent, at)
		if c.Err() != nil {
			t.Fatal(c.Err())
		}
		c.Cancel()
	})
	if n > 1 {
		t.Errorf("%.0f allocations", n)
	}
}
