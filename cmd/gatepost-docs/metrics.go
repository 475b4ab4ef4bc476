package main

import (
	"bytes"
	"fmt"
	"strings"

	"gatepost/proxy/metrics"
)

// metricsPage lists what /metrics shows.
func metricsPage() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# Metrics\n\n" + generated + `
What Prometheus finds at /metrics on the admin listener ([monitoring.md](monitoring.md) says how to let it in). Every label
has few values: constants, backends and rules of the configuration, facts with a closed set of values. Nothing that a client
says becomes a label.

## Gatepost

` + tableHead)
	for _, m := range metrics.Declared() {
		row(&b, m)
	}
	b.WriteString("\n## The process and its runtime\n\nOf the Prometheus client library, as on Linux.\n\n" + tableHead)
	runtime, err := metrics.Runtime()
	if err != nil {
		return nil, err
	}
	for _, m := range runtime {
		row(&b, m)
	}
	return b.Bytes(), nil
}

const tableHead = "| metric | type | labels | meaning |\n|---|---|---|---|\n"

func row(b *bytes.Buffer, m metrics.Metric) {
	labels := ""
	if len(m.Labels) > 0 {
		labels = "`" + strings.Join(m.Labels, "`, `") + "`"
	}
	fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", m.Name, strings.ToLower(string(m.Kind)), labels, strings.ReplaceAll(m.Help, "|", "\\|"))
}
