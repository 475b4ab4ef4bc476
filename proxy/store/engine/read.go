package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/rueidis"

	"gatepost/filters"
	"gatepost/proxy/store"
)

// Peek implements [filters.Store]. A pass that is known here answers without a round trip; see the package's comment.
func (e *Engine) Peek(ctx context.Context, space string, keys []string) ([]filters.Mark, error) {
	if err := store.CheckSpace(space); err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, nil
	}
	names := make([]string, len(keys))
	commands := make([]rueidis.CacheableTTL, len(keys))
	for i, key := range keys {
		names[i] = e.keys.mark(space, key)
		commands[i] = rueidis.CT(e.client.B().Get().Key(names[i]).Cache(), cacheTTL)
	}
	now, marks, hits := e.now(), make([]filters.Mark, len(keys)), 0
	for i, r := range e.client.DoMultiCache(ctx, commands...) {
		value, err := r.ToString()
		if err != nil && !rueidis.IsRedisNil(err) {
			return nil, err
		}
		marks[i] = parseMark(value, now)
		if r.IsCacheHit() {
			hits++
		}
	}
	switch {
	case hits < len(keys):
		e.trips.Add(1)
		if hits == 0 {
			return marks, nil
		}
	case slices.ContainsFunc(marks, hasPassed):
		e.cached.Add(1)
	}
	if slices.ContainsFunc(marks, hasPassed) {
		return marks, nil
	}
	values, err := e.get(ctx, names)
	if err != nil {
		return nil, err
	}
	for i, value := range values {
		marks[i] = parseMark(value, now)
	}
	return marks, nil
}

// get reads values past the cache; a key that is not there has the empty one.
func (e *Engine) get(ctx context.Context, names []string) ([]string, error) {
	e.trips.Add(1)
	found, err := rueidis.MGet(e.client, ctx, names)
	if err != nil {
		return nil, err
	}
	values := make([]string, len(names))
	for i, name := range names {
		message := found[name]
		if values[i], err = message.ToString(); err != nil && !rueidis.IsRedisNil(err) {
			return nil, err
		}
	}
	return values, nil
}

// scanned is how many keys one step of a scan looks at.
const scanned = 1000

// Range implements [filters.Store]. It goes through all keys of the engine and is for operators; a mark may come twice
// if the engine grows meanwhile.
func (e *Engine) Range(ctx context.Context, space, prefix string, yield func(key string, m filters.Mark) bool) error {
	if err := store.CheckSpace(space); err != nil {
		return err
	}
	pattern := glob.Replace(e.keys.prefix+spaceCode(space)) + "{*"
	prefix = store.Shorten(prefix)
	return e.scan(ctx, pattern, func(name string) bool {
		found, key, ok := e.keys.parse(name)
		return ok && found == space && strings.HasPrefix(key, prefix)
	}, e.marksOf(func(_, key string, m filters.Mark) bool { return yield(key, m) }))
}

// Each calls yield for every mark of every space, until it returns false, as Range does.
func (e *Engine) Each(ctx context.Context, yield func(space, key string, m filters.Mark) bool) error {
	return e.scan(ctx, glob.Replace(e.keys.prefix)+"[g:]*", func(name string) bool {
		_, _, ok := e.keys.parse(name)
		return ok
	}, e.marksOf(yield))
}

// Size is about how many keys the engine has, those of others in the same database included.
func (e *Engine) Size(ctx context.Context) (total int64, err error) {
	err = e.masters(ctx, func(node rueidis.Client) (bool, error) {
		n, err := node.Do(ctx, node.B().Dbsize().Build()).AsInt64()
		total += n
		return true, err
	})
	return total, err
}

// scan calls read with the wanted names, some at a time, until it returns false.
func (e *Engine) scan(ctx context.Context, pattern string, wanted func(name string) bool, read func(ctx context.Context, names []string) (more bool, err error)) error {
	return e.masters(ctx, func(node rueidis.Client) (more bool, err error) {
		for cursor := uint64(0); ; {
			e.trips.Add(1)
			page, err := node.Do(ctx, node.B().Scan().Cursor(cursor).Match(pattern).Count(scanned).Build()).AsScanEntry()
			if err != nil {
				return false, err
			}
			names := slices.DeleteFunc(page.Elements, func(name string) bool { return !wanted(name) })
			if len(names) > 0 {
				if more, err := read(ctx, names); !more || err != nil {
					return false, err
				}
			}
			if cursor = page.Cursor; cursor == 0 {
				return true, nil
			}
		}
	})
}

// marksOf reads the marks of names and hands them out.
func (e *Engine) marksOf(yield func(space, key string, m filters.Mark) bool) func(ctx context.Context, names []string) (more bool, err error) {
	return func(ctx context.Context, names []string) (more bool, err error) {
		values, err := e.get(ctx, names)
		if err != nil {
			return false, err
		}
		now := e.now()
		for i, value := range values {
			space, key, _ := e.keys.parse(names[i])
			if m := parseMark(value, now); m.Exists() && !yield(space, key, m) {
				return false, nil
			}
		}
		return true, nil
	}
}

// masters calls do for every node that is one, until it returns false.
func (e *Engine) masters(ctx context.Context, do func(node rueidis.Client) (more bool, err error)) error {
	if !e.cluster {
		_, err := do(e.client)
		return err
	}
	asked := 0
	for address, node := range e.client.Nodes() {
		role, err := node.Do(ctx, node.B().Role().Build()).ToArray()
		if err != nil || len(role) == 0 {
			return fmt.Errorf("node %s: %w", address, err)
		}
		if name, _ := role[0].ToString(); name != "master" {
			continue
		}
		asked++
		if more, err := do(node); !more || err != nil {
			return err
		}
	}
	if asked == 0 {
		return fmt.Errorf("the cluster has no master")
	}
	return nil
}
