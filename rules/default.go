package rules

import _ "embed"

// Default is the default rules: a YAML list of the same form as `rules:` in the configuration.
//
//go:embed default.yaml
var Default []byte
