package main

import (
	"os"
	"testing"
	"time"
)

// A journal ends before now, and its bar before it is full: on a terminal, reading it ended never. The null device is a
// character device as a terminal is.
func TestABarEndsBeforeItIsFull(t *testing.T) {
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	now := time.Now()
	p := newProgress(device, now.Add(-time.Hour), now)
	if p.bar.bar == nil {
		t.Fatal("there is no bar")
	}
	for range 2 * everySo {
		p.at(now.Add(-time.Minute))
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.end()
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
}
