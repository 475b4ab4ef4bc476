package main

import (
	"math"
	"testing"
)

func TestMedianAndSpread(t *testing.T) {
	nan := math.NaN()
	for _, test := range []struct {
		values         []float64
		median, spread float64
	}{
		{nil, nan, nan},
		{[]float64{nan}, nan, nan},
		{[]float64{3}, 3, 0},
		{[]float64{9, 1, 2}, 2, 4},
		{[]float64{4, nan, 2}, 3, 1},
	} {
		same := func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
		if m, s := median(test.values), spread(test.values); !same(m, test.median) || !same(s, test.spread) {
			t.Errorf("%v: median %g, spread %g; want %g and %g", test.values, m, s, test.median, test.spread)
		}
	}
}

// The median of ten lies between the second and the ninth in 98 cases of 100.
func TestMedianError(t *testing.T) {
	if got := medianError([]float64{10, 2, 3, 4, 50, 6, 7, 8, 9, 1}); got != 4 {
		t.Errorf("of ten: %g, want 4", got)
	}
	if got := medianError([]float64{1, 2, 3, 4}); !math.IsNaN(got) {
		t.Errorf("of four: %g", got)
	}
	many := make([]float64, 100)
	for i := range many {
		many[i] = float64(i * 7 % 100)
	}
	if got := medianError(many); got != 10.5 {
		t.Errorf("of 0 to 99: %g, want 10.5, half of 39 to 60", got)
	}
}

func TestTable(t *testing.T) {
	table := table{title: "speed", header: []string{"", "msg/s", "±"}, rows: [][]string{{"direct", "9", "10 %"}, {"HAProxy, TCP mode", "12345", "–"}}}
	text := "speed\n" +
		"                     msg/s     ±\n" +
		"  direct                 9  10 %\n" +
		"  HAProxy, TCP mode  12345     –\n"
	if got := table.text(); got != text {
		t.Errorf("printed:\n%s\nwant:\n%s", got, text)
	}
	markdown := "### speed\n\n|  | msg/s | ± |\n|---|--:|--:|\n| direct | 9 | 10 % |\n| HAProxy, TCP mode | 12345 | – |\n"
	if got := table.markdown(); got != markdown {
		t.Errorf("markdown:\n%s\nwant:\n%s", got, markdown)
	}
}
