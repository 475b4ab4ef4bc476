package main

import (
	"math"
	"slices"
)

// median of values; NaN of none. NaN among them are left out.
func median(values []float64) float64 {
	v := numbers(values)
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// spread is half of what lies between the smallest and the largest; NaN of none.
func spread(values []float64) float64 {
	v := numbers(values)
	if len(v) == 0 {
		return math.NaN()
	}
	return (slices.Max(v) - slices.Min(v)) / 2
}

// medianError is half of the interval in which the median of all possible rounds lies, 19 times in 20: of the binomial
// distribution, without a guess at how rounds are distributed. NaN of less than six, which cannot tell.
func medianError(values []float64) float64 {
	v := numbers(values)
	n := float64(len(v))
	below := int(math.Round((n - 1.96*math.Sqrt(n)) / 2))
	if below < 1 {
		return math.NaN()
	}
	slices.Sort(v)
	return (v[len(v)-below] - v[below-1]) / 2
}

func numbers(values []float64) []float64 {
	return slices.DeleteFunc(slices.Clone(values), math.IsNaN)
}
