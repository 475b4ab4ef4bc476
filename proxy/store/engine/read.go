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
	marks, _, err := e.PeekBeside(ctx, space, keys, func() []string { return nil })
	return marks, err
}

// PeekBeside is Peek that reads standings along where it needs a round trip; else there are none, and beside is not asked.
func (e *Engine) PeekBeside(ctx context.Context, space string, keys []string, beside func() []string) ([]filters.Mark, []filters.Standing, error) {
	if err := store.CheckSpace(space); err != nil {
		return nil, nil, err
	}
	if len(keys) == 0 {
		return nil, nil, nil
	}
	addresses := e.keys.addresses(space, keys, store.Shorten)
	if e.passed.hasAny(addresses) {
		marks, err := e.peekCached(ctx, addresses)
		if err != nil || slices.ContainsFunc(marks, hasPassed) {
			return marks, nil, err
		}
		e.passed.remove(addresses)
	}
	return e.peekFresh(ctx, addresses, beside())
}

// reads are the commands that read a mark: the one of a pass comes first.
func (e *Engine) reads(addresses []address, add func(read rueidis.Cacheable)) {
	for _, a := range addresses {
		add(e.client.B().Hget().Key(a.bucket).Field(a.field).Cache())
		if a.own != a.bucket {
			add(e.client.B().Get().Key(a.own).Cache())
		}
	}
}

// peekCached reads marks where one has passed lately: what is known here needs no round trip.
func (e *Engine) peekCached(ctx context.Context, addresses []address) ([]filters.Mark, error) {
	commands := make([]rueidis.CacheableTTL, 0, 2*len(addresses))
	e.reads(addresses, func(read rueidis.Cacheable) { commands = append(commands, rueidis.CT(read, cacheTTL)) })
	results := e.client.DoMultiCache(ctx, commands...)
	if slices.ContainsFunc(results, func(r rueidis.RedisResult) bool { return !r.IsCacheHit() }) {
		e.count(tagsOf(addresses)...)
	} else {
		e.cached.Add(1)
	}
	return e.marksIn(addresses, results)
}

// peekFresh reads marks, and standings beside them, past the cache.
func (e *Engine) peekFresh(ctx context.Context, addresses []address, beside []string) ([]filters.Mark, []filters.Standing, error) {
	commands, tags := make(rueidis.Commands, 0, 2*len(addresses)+len(beside)), tagsOf(addresses)
	e.reads(addresses, func(read rueidis.Cacheable) { commands = append(commands, rueidis.Completed(read)) })
	ofMarks := len(commands)
	for _, key := range beside {
		key = store.Shorten(key)
		commands, tags = append(commands, e.client.B().Get().Key(e.keys.standing(key)).Build()), append(tags, placeOf(key))
	}
	e.count(tags...)
	results := e.client.DoMulti(ctx, commands...)
	marks, err := e.marksIn(addresses, results[:ofMarks])
	if err != nil {
		return nil, nil, err
	}
	values := make([]string, len(beside))
	for i, r := range results[ofMarks:] {
		if values[i], err = r.ToString(); err != nil && !rueidis.IsRedisNil(err) {
			return nil, nil, err
		}
	}
	for i, m := range marks {
		if hasPassed(m) {
			e.passed.add(addresses[i])
		}
	}
	return marks, e.standingsIn(values), nil
}

func tagsOf(addresses []address) []string {
	tags := make([]string, len(addresses))
	for i, a := range addresses {
		tags[i] = a.place
	}
	return tags
}

// marksIn takes the marks out of what reads were answered.
func (e *Engine) marksIn(addresses []address, results []rueidis.RedisResult) ([]filters.Mark, error) {
	marks, now, next := make([]filters.Mark, len(addresses)), e.now(), 0
	for i, a := range addresses {
		places := 1
		if a.own != a.bucket {
			places = 2
		}
		for _, r := range results[next : next+places] {
			value, err := r.ToString()
			if err != nil && !rueidis.IsRedisNil(err) {
				return nil, err
			}
			if !marks[i].Exists() {
				marks[i] = parseMark(value, now)
			}
		}
		next += places
	}
	return marks, nil
}

// get reads values past the cache; a key that is not there has the empty one. The tags are those of the names; without
// any, it counts as one request.
func (e *Engine) get(ctx context.Context, names []string, tags ...string) ([]string, error) {
	if len(tags) == 0 {
		tags = []string{""}
	}
	e.count(tags...)
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

// Range implements [filters.Store]. In a large space it goes through all keys of the engine and is for operators; a mark may
// come twice if it changes meanwhile. In a grouped one a prefix with a blank reads one hash. Any other space is one round
// trip or a few.
func (e *Engine) Range(ctx context.Context, space, prefix string, yield func(key string, m filters.Mark) bool) error {
	if err := store.CheckSpace(space); err != nil {
		return err
	}
	prefix = store.Shorten(prefix)
	each := func(found, key string, m filters.Mark) bool {
		return found != space || !strings.HasPrefix(key, prefix) || yield(key, m)
	}
	if word, ok := firstWord(space, prefix); ok {
		_, err := e.readMarks(ctx, []string{e.keys.mark(space, word).bucket}, each)
		return err
	}
	if !isLarge(space) && !groupedSpaces[space] {
		_, err := e.readMarks(ctx, e.keys.buckets(space), each)
		return err
	}
	return e.scan(ctx, glob.Replace(e.keys.marks+spaceCode(space))+"{*", e.isMark, func(ctx context.Context, names []string) (bool, error) {
		return e.readMarks(ctx, names, each)
	})
}

// Each calls yield for every mark of every space, until it returns false, as Range does.
func (e *Engine) Each(ctx context.Context, yield func(space, key string, m filters.Mark) bool) error {
	return e.scan(ctx, glob.Replace(e.keys.marks)+"*", e.isMark, func(ctx context.Context, names []string) (bool, error) {
		return e.readMarks(ctx, names, yield)
	})
}

func (e *Engine) isMark(name string) bool {
	_, _, _, ok := e.keys.parse(name)
	return ok
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

// readAtOnce is how many hashes or keys are read in one round trip: a hash of a site with 50,000,000 senders has 250 kB.
const readAtOnce = 64

// readMarks hands out the marks that are in hashes, or under keys of their own.
func (e *Engine) readMarks(ctx context.Context, names []string, yield func(space, key string, m filters.Mark) bool) (more bool, err error) {
	now := e.now()
	for names := range slices.Chunk(names, readAtOnce) {
		commands := make(rueidis.Commands, len(names))
		for i, name := range names {
			if _, _, isBucket, _ := e.keys.parse(name); isBucket {
				commands[i] = e.client.B().Hgetall().Key(name).Build()
			} else {
				commands[i] = e.client.B().Get().Key(name).Build()
			}
		}
		e.trips.Add(1)
		for i, r := range e.client.DoMulti(ctx, commands...) {
			space, key, isBucket, _ := e.keys.parse(names[i])
			values := map[string]string{}
			if isBucket {
				values, err = r.AsStrMap()
			} else {
				values[key], err = r.ToString()
			}
			if err != nil && !rueidis.IsRedisNil(err) {
				return false, err
			}
			for key, value := range values {
				if m := parseMark(value, now); m.Exists() && !yield(space, key, m) {
					return false, nil
				}
			}
		}
	}
	return true, nil
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
