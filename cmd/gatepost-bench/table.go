package main

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// table is printed with columns that line up, or as markdown. The first column holds names, the others figures.
type table struct {
	title  string
	header []string
	rows   [][]string
}

func (t table) text() string {
	widths := make([]int, len(t.header))
	for _, row := range append([][]string{t.header}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", t.title)
	for _, row := range append([][]string{t.header}, t.rows...) {
		fmt.Fprintf(&b, "  %s", pad(row[0], -widths[0]))
		for i, cell := range row[1:] {
			fmt.Fprintf(&b, "  %s", pad(cell, widths[i+1]))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// pad fills up to width characters, at the left or, for a negative width, at the right.
func pad(cell string, width int) string { return fmt.Sprintf("%*s", width, cell) }

func (t table) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n| %s |\n|---|%s\n", t.title, strings.Join(t.header, " | "), strings.Repeat("--:|", len(t.header)-1))
	for _, row := range t.rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
	}
	return b.String()
}
