package admin

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"gatepost/proxy/telemetry"
)

// chart is a picture of transactions over time: a bar for each span of time, stacked by verdict.
type chart struct {
	Title   string
	Name    string // for ids
	Picture template.HTML
	Legend  []legendItem
	Top     uint64 // what the upper edge stands for
	From    time.Time
	Middle  time.Time
	To      time.Time
	Rows    []chartRow // the same as a table, thinned out
}

type legendItem struct {
	Verdict string
	Count   uint64
}

type chartRow struct {
	From  time.Time
	Tally Tally
}

// Size of the drawing; the page stretches it.
const (
	chartWidth  = 720
	chartHeight = 160
	chartRows   = 12
)

// draw makes the picture of bars that end now. Numbers alone go into it, and no text that a client has made.
func draw(name, title string, bars []Tally, width time.Duration, now time.Time) chart {
	end := now.Truncate(width).Add(width)
	c := chart{Name: name, Title: title, From: end.Add(-time.Duration(len(bars)) * width), To: now}
	c.Middle = end.Add(-time.Duration(len(bars)/2) * width)
	var sum Tally
	top := uint64(0)
	for _, bar := range bars {
		sum.add(bar)
		top = max(top, bar.Total())
	}
	c.Top = roundUp(top)
	for i, verdict := range telemetry.Verdicts {
		c.Legend = append(c.Legend, legendItem{verdict, uint64(sum[i])})
	}
	c.Picture = template.HTML(svg(name, title, bars, c.Top)) //nolint:gosec // numbers and words of ours
	each := max(1, len(bars)/chartRows)
	for i := 0; i < len(bars); i += each {
		row := chartRow{From: c.From.Add(time.Duration(i) * width)}
		for _, bar := range bars[i:min(i+each, len(bars))] {
			row.Tally.add(bar)
		}
		c.Rows = append(c.Rows, row)
	}
	return c
}

// svg draws the bars: a path for each verdict, so that style sheets can colour them.
func svg(name, title string, bars []Tally, top uint64) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %d %d" preserveAspectRatio="none" role="img" aria-labelledby="%s-title">`, chartWidth, chartHeight, name)
	fmt.Fprintf(&b, `<title id="%s-title">%s</title>`, name, title)
	for i := 1; i < 4; i++ {
		y := chartHeight * i / 4
		fmt.Fprintf(&b, `<path class="grid" d="M0 %dH%d"/>`, y, chartWidth)
	}
	step := float64(chartWidth) / float64(len(bars))
	gap := min(1.5, step/4)
	below := make([]uint64, len(bars))
	for v, verdict := range telemetry.Verdicts {
		var path strings.Builder
		for i, bar := range bars {
			if bar[v] == 0 {
				continue
			}
			height := func(n uint64) float64 { return float64(chartHeight) * float64(n) / float64(top) }
			y := float64(chartHeight) - height(below[i]+uint64(bar[v]))
			fmt.Fprintf(&path, "M%.2f %.2fh%.2fv%.2fh-%.2fz", float64(i)*step+gap/2, y, step-gap, height(uint64(bar[v])), step-gap)
			below[i] += uint64(bar[v])
		}
		if path.Len() > 0 {
			fmt.Fprintf(&b, `<path class="v-%s" d="%s"/>`, verdict, path.String())
		}
	}
	b.WriteString("</svg>")
	return b.String()
}

// roundUp is the next of 4, 8, 20, 40, 80, 200, …: its quarters are whole numbers.
func roundUp(n uint64) uint64 {
	for scale := uint64(1); ; scale *= 10 {
		for _, step := range [...]uint64{4, 8, 20} {
			if n <= step*scale {
				return step * scale
			}
		}
	}
}
