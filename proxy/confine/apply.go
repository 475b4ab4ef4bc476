package confine

import (
	"encoding/json"
	"fmt"
	"os"
)

// variable tells a successor what its predecessor, and so itself, may do.
const variable = "GATEPOST_CONFINED"

// Extent is how far a confinement goes.
type Extent int

// What the kernel can do.
const (
	Nothing  Extent = iota
	Files           // since Linux 5.19
	FilesTCP        // since Linux 6.7
)

// Inherited is the Grant of the process that has started this one, if that was confined; nil: it was not.
func Inherited() *Grant {
	text := os.Getenv(variable)
	if text == "" || !confined() {
		return nil
	}
	g := &Grant{}
	if json.Unmarshal([]byte(text), g) != nil {
		return nil
	}
	return g
}

// Apply confines the process, and tells how far: as far as the kernel can. Folders that do not exist are left out of the
// Grant that is in force, which is returned.
func Apply(g Grant) (inForce *Grant, extent Extent, err error) {
	extent = Available()
	if extent == Nothing {
		return nil, Nothing, nil
	}
	for _, list := range []*[]string{&g.Read, &g.Execute, &g.Write} {
		there := []string{}
		for _, path := range *list {
			if _, err := os.Stat(path); err == nil {
				there = append(there, path)
			}
		}
		*list = there
	}
	if extent < FilesTCP {
		g.Ports = nil
	}
	text, err := json.Marshal(g)
	if err != nil {
		return nil, Nothing, err
	}
	if err := restrict(&g, extent); err != nil {
		return nil, Nothing, fmt.Errorf("landlock: %w", err)
	}
	return &g, extent, os.Setenv(variable, string(text))
}
