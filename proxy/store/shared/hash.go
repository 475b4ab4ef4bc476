package shared

import (
	"errors"
	"hash/maphash"

	"gatepost/filters"
)

// seed differs per process: nobody can choose keys that all meet in one shard.
var seed = maphash.MakeSeed()

func hash(b filters.Bucket) uint64 { return maphash.Comparable(seed, viewKey{b.Limit, b.Of}) }

var errAlone = errors.New("limits are counted by this proxy alone: the shared store cannot be used")
