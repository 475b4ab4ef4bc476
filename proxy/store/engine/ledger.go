package engine

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"gatepost/filters"
	"gatepost/proxy/store"
)

// A standing is a string of 26 bytes (see [store.AppendStanding]) under PREFIX1l{NN}KEY, where NN is one of 64 places by the
// hash of the key: so a batch of tallies is at most 64 scripts in a cluster, and one elsewhere. PREFIX1L{NN}WRITER is the
// number of the last batch from a writer; it lives a week.
const (
	standingCode = "l"
	writerCode   = "L"
	places       = 64
	// oneTallyScript bounds the keys of a script: others wait while it runs.
	oneTallyScript = 500
)

func placeOf(key string) string {
	return fmt.Sprintf("{%02x}", hash(key)%places)
}

func (k keys) standing(key string) string { return k.prefix + standingCode + placeOf(key) + key }

func (k keys) writer(place, writer string) string { return k.prefix + writerCode + place + writer }

// parseStanding reads what standing wrote.
func (k keys) parseStanding(name string) (key string, ok bool) {
	rest, ok := strings.CutPrefix(name, k.prefix+standingCode)
	if !ok || len(rest) < 4 {
		return "", false
	}
	return rest[4:], rest[:4] == placeOf(rest[4:])
}

// Writer tells the batches of one process from those of others.
type Writer struct {
	ID string // of no other process
	// Batch is the number of the batch: a later one has a greater number. The same batch, made again with the same number
	// and the same standings because nobody knows whether it arrived, counts once.
	Batch uint64
}

// Add adds parts of histories, one per key, to what is known. At most 500 keys are a batch.
func (e *Engine) Add(ctx context.Context, w Writer, keys []string, more []filters.Standing) error {
	if len(keys) > oneTallyScript {
		return fmt.Errorf("a batch has %d keys at most", oneTallyScript)
	}
	_, err := e.tally(ctx, w, "add", keys, more)
	return err
}

// MergeStandings joins another memory, one standing per key, to what is here (see [filters.Standing.Merge]).
func (e *Engine) MergeStandings(ctx context.Context, keys []string, theirs []filters.Standing) error {
	for len(keys) > 0 {
		n := min(len(keys), oneTallyScript)
		if _, err := e.tally(ctx, Writer{}, "max", keys[:n], theirs[:n]); err != nil {
			return err
		}
		keys, theirs = keys[n:], theirs[n:]
	}
	return nil
}

func (e *Engine) tally(ctx context.Context, w Writer, how string, keys []string, more []filters.Standing) (removed int, err error) {
	now, all := milli(e.now()), atomic.Int64{}
	err = e.run(ctx, e.standingGroups(keys), func(ctx context.Context, g group) error {
		names := append([]string{e.keys.writer(g.place, w.ID)}, g.names...)
		arguments := []string{now, strconv.FormatUint(w.Batch, 10), how}
		for _, place := range g.places {
			if more != nil {
				arguments = append(arguments, string(store.AppendStanding(nil, more[place])))
			}
		}
		n, err := e.exec(ctx, tallyScript, names, arguments).AsInt64()
		all.Add(n)
		return err
	})
	return int(all.Load()), err
}

// standingGroups is one group, and in a cluster one for each place.
func (e *Engine) standingGroups(keys []string) []group {
	var groups []group
	at := map[string]int{}
	for i, key := range keys {
		key = store.StoredKey(key)
		place := placeOf("")
		if e.cluster {
			place = placeOf(key)
		}
		g, known := at[place]
		if !known {
			g = len(groups)
			at[place] = g
			groups = append(groups, group{place: place})
		}
		groups[g].names = append(groups[g].names, e.keys.standing(key))
		groups[g].places = append(groups[g].places, i)
	}
	return groups
}

// Standings reads what is known under the keys, one entry per key, past the cache.
func (e *Engine) Standings(ctx context.Context, keys []string) ([]filters.Standing, error) {
	names, tags := make([]string, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		key = store.Shorten(key)
		names[i], tags[i] = e.keys.standing(key), placeOf(key)
	}
	values, err := e.get(ctx, names, tags...)
	if err != nil {
		return nil, err
	}
	return e.standingsIn(values), nil
}

// standingsIn reads what keys of standings hold; what cannot be read is as if it were not there.
func (e *Engine) standingsIn(values []string) []filters.Standing {
	standings, now := make([]filters.Standing, len(values)), e.now()
	for i, value := range values {
		if s, ok := store.ParseStanding([]byte(value)); ok {
			standings[i] = s.Live(now)
		}
	}
	return standings
}

// ForgetStandings removes what is known and returns under how many keys there was something.
func (e *Engine) ForgetStandings(ctx context.Context, keys []string) (int, error) {
	shortened := make([]string, len(keys))
	for i, key := range keys {
		shortened[i] = store.Shorten(key)
	}
	return e.tally(ctx, Writer{}, "forget", shortened, nil)
}

// RangeStandings calls yield for every standing whose key starts with prefix, until it returns false. It goes through
// all keys of the engine, as Range does.
func (e *Engine) RangeStandings(ctx context.Context, prefix string, yield func(key string, s filters.Standing) bool) error {
	prefix = store.Shorten(prefix)
	wanted := func(name string) bool {
		key, ok := e.keys.parseStanding(name)
		return ok && strings.HasPrefix(key, prefix)
	}
	return e.scan(ctx, glob.Replace(e.keys.prefix)+standingCode+"{*", wanted, func(ctx context.Context, names []string) (bool, error) {
		values, err := e.get(ctx, names)
		if err != nil {
			return false, err
		}
		now := e.now()
		for i, value := range values {
			key, _ := e.keys.parseStanding(names[i])
			s, ok := store.ParseStanding([]byte(value))
			if s = s.Live(now); ok && s.Exists() && !yield(key, s) {
				return false, nil
			}
		}
		return true, nil
	})
}
