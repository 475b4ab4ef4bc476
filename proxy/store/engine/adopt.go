package engine

import (
	"context"
	"strings"
	"time"

	"gatepost/filters"
)

// Layout 1 had every mark under a key of its own: PREFIX1, "g" for greylisting or ":SPACE:", the home in braces, the rest of
// the key. Proxies of then neither see nor touch keys of now.
const layoutBefore, greylistBefore = "1", "g"

// Adopt merges the marks that a proxy of layout 1 has used since then, and returns how many there were. Theirs stay, for as
// long as such a proxy still needs them.
func (e *Engine) Adopt(ctx context.Context, since time.Time) (adopted int, err error) {
	prefix := strings.TrimSuffix(e.keys.prefix, layout) + layoutBefore
	wanted := func(name string) bool {
		_, _, ok := parseBefore(prefix, name)
		return ok
	}
	err = e.scan(ctx, glob.Replace(prefix)+"[g:]*", wanted, func(ctx context.Context, names []string) (bool, error) {
		values, err := e.get(ctx, names)
		if err != nil {
			return false, err
		}
		keys, marks := map[string][]string{}, map[string][]filters.Mark{}
		for i, value := range values {
			m := parseMark(value, e.now())
			if m.Exists() && !m.Last.Before(since) {
				space, key, _ := parseBefore(prefix, names[i])
				keys[space], marks[space] = append(keys[space], key), append(marks[space], m)
				adopted++
			}
		}
		for space := range keys {
			if _, err := e.Merge(ctx, space, keys[space], marks[space]); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	return adopted, err
}

// parseBefore reads the name of a mark's key of layout 1.
func parseBefore(prefix, name string) (space, key string, ok bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return "", "", false
	}
	code, rest, ok := strings.Cut(rest, "{")
	if !ok {
		return "", "", false
	}
	home, rest, ok := strings.Cut(rest, "}")
	switch {
	case !ok:
		return "", "", false
	case code == greylistBefore:
		space = "greylist"
	case len(code) > 2 && code[0] == ':' && code[len(code)-1] == ':':
		space = unescape.Replace(code[1 : len(code)-1])
	default:
		return "", "", false
	}
	if home == emptyHome {
		home = ""
	}
	return space, rest + unescape.Replace(home), true
}
