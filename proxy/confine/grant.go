package confine

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Grant is what a confined process may still do. Paths are absolute and stand for everything below them.
type Grant struct {
	Read    []string `json:"read"`
	Execute []string `json:"execute"` // and read
	Write   []string `json:"write"`   // and read, make and remove
	// Ports are those that TCP may be spoken to, wherever; nil: all.
	Ports []uint16 `json:"ports"`
}

// ReadFolder grants what is in and below a folder, and in what a symbolic link leads to.
func (g *Grant) ReadFolder(folder string) { g.Read = add(g.Read, folder) }

// ReadFile grants the folder of a file, and the folder of the file that it leads to: renewed certificates and edited
// lists are new files under the old name.
func (g *Grant) ReadFile(file string) {
	if file == "" {
		return
	}
	g.Read = add(g.Read, filepath.Dir(file))
	if to, err := filepath.EvalSymlinks(file); err == nil {
		g.Read = add(g.Read, filepath.Dir(to))
	}
}

// WriteFolder grants what is in and below a folder.
func (g *Grant) WriteFolder(folder string) { g.Write = add(g.Write, folder) }

// ExecuteFolder grants the programs of a folder: a new release is a new file under the old name.
func (g *Grant) ExecuteFolder(folder string) { g.Execute = add(g.Execute, folder) }

// Port grants connections to a TCP port.
func (g *Grant) Port(port uint16) {
	if !slices.Contains(g.Ports, port) {
		g.Ports = append(g.Ports, port)
		slices.Sort(g.Ports)
	}
}

// Add grants what another Grant does.
func (g *Grant) Add(more *Grant) {
	for _, path := range more.Read {
		g.Read = add(g.Read, path)
	}
	for _, path := range more.Execute {
		g.Execute = add(g.Execute, path)
	}
	for _, path := range more.Write {
		g.Write = add(g.Write, path)
	}
	if more.Ports == nil || g.Ports == nil {
		g.Ports = nil
		return
	}
	for _, port := range more.Ports {
		g.Port(port)
	}
}

// add resolves a path: the kernel binds a rule to the file itself.
func add(list []string, path string) []string {
	if path == "" {
		return list
	}
	path = resolved(path)
	if slices.Contains(list, path) {
		return list
	}
	return append(list, path)
}

func resolved(path string) string {
	if to, err := filepath.EvalSymlinks(path); err == nil {
		return to
	}
	return filepath.Clean(path)
}

// Missing names what another Grant has and this one has not.
func (g *Grant) Missing(need *Grant) (missing []string) {
	for _, kind := range []struct {
		what       string
		need, have []string
	}{
		{"write to", need.Write, g.Write},
		{"read", need.Read, slices.Concat(g.Read, g.Execute, g.Write)},
		{"execute in", need.Execute, g.Execute},
	} {
		for _, path := range kind.need {
			if !slices.ContainsFunc(kind.have, func(have string) bool { return within(have, path) }) {
				missing = append(missing, kind.what+" "+path)
			}
		}
	}
	switch {
	case g.Ports == nil:
	case need.Ports == nil:
		missing = append(missing, "connect to whatever port the nodes of store.redis have")
	default:
		for _, port := range need.Ports {
			if !slices.Contains(g.Ports, port) {
				missing = append(missing, fmt.Sprintf("connect to port %d", port))
			}
		}
	}
	return missing
}

// within tells whether a path is a folder or below it.
func within(folder, path string) bool {
	rest, ok := strings.CutPrefix(path, folder)
	return ok && (rest == "" || rest[0] == '/' || strings.HasSuffix(folder, "/"))
}
