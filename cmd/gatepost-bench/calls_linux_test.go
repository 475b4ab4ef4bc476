package main

import "testing"

func TestTotalCalls(t *testing.T) {
	const summary = "% time     seconds  usecs/call     calls    errors syscall\n" +
		"------ ----------- ----------- --------- --------- ----------------\n" +
		" 51.10    0.010000           7      1400           write\n" +
		" 48.90    0.009000          10       900       300 read\n" +
		"------ ----------- ----------- --------- --------- ----------------\n" +
		"100.00    0.019000           8      2300       300 total\n"
	if got, err := totalCalls([]byte(summary)); err != nil || got != 2300 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := totalCalls([]byte("strace: attach failed\n")); err == nil {
		t.Error("no error without a total")
	}
}
