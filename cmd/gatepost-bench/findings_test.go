package main

import (
	"math"
	"testing"
)

func TestVerdicts(t *testing.T) {
	for _, test := range []struct {
		figures []float64
		goal    goal
		want    string
	}{
		{[]float64{1, 2, 3}, goal{2, atLeast}, "met"},
		{[]float64{1, 2, 3}, goal{2, atMost}, "met"},
		{[]float64{1, 2, 3}, goal{2.1, atLeast}, "missed"},
		{[]float64{1, 2, 3}, goal{1.9, atMost}, "missed"},
		{[]float64{1}, goal{}, "–"},
		{nil, goal{2, atMost}, "not measured"},
		{[]float64{math.NaN()}, goal{2, atLeast}, "not measured"},
	} {
		if got := (finding{figures: test.figures, goal: test.goal}).verdict(); got != test.want {
			t.Errorf("%v, %s: %s, want %s", test.figures, test.goal, got, test.want)
		}
	}
}

// A goal that names a scenario or a peer that does not exist would never be missed.
func TestGoalsAreAboutSomething(t *testing.T) {
	known := keys()
	for _, g := range contestGoals {
		for _, key := range []string{g.scenario, g.peer} {
			found := false
			for _, k := range known {
				found = found || k == key
			}
			if !found {
				t.Errorf("%s: there is no %q", g.title, key)
			}
		}
	}
	if refusals[greylistRefusal].key != "greylist" {
		t.Error("greylistRefusal is another one")
	}
}
