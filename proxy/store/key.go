package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash/maphash"
	"strings"
)

// maxKey is the length from which on a key is hashed. No literal key is as long, so none can pose as a hashed one.
const maxKey = 512

// entriesKey holds the number of marks on disk. It sorts before every mark: a space is never empty.
var entriesKey = []byte("\x00entries")

// formatKey holds storeFormat.
var formatKey = []byte("\x00format")

// Standings have the prefix standingPrefix and are before every mark, too: what goes through marks does not meet them, nor
// does a release that does not know them. standingsKey holds their number.
var standingsKey = []byte("\x00standings")

const standingPrefix = "\x00l\x00"

var errSpace = errors.New("store: a space is a name without NUL")

// recordKey is the key on disk: space, NUL, key. The beginning of a hashed key stays, so that Range finds it by prefix.
func recordKey(space, key string) string { return space + "\x00" + Shorten(key) }

// recordKeys are the keys on disk of keys that name has shortened.
func recordKeys(space string, keys []string, name func(key string) string) []string {
	records := make([]string, len(keys))
	for i, key := range keys {
		records[i] = space + "\x00" + name(key)
	}
	return records
}

// Shorten returns the key as stores keep it: what is longer than 511 bytes ends in a hash.
func Shorten(key string) string {
	if len(key) < maxKey {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return key[:maxKey-1-2*len(sum)] + "~" + hex.EncodeToString(sum[:])
}

// StoredKey returns a key as it came from Range or Each, which may be one that was shortened: to shorten it again would
// make another one of it.
func StoredKey(key string) string {
	if len(key) == maxKey {
		return key
	}
	return Shorten(key)
}

// CheckSpace tells what is wrong with the name of a space.
func CheckSpace(space string) error {
	if space == "" || strings.IndexByte(space, 0) >= 0 {
		return errSpace
	}
	return nil
}

// successor is the first key behind all that start with prefix; nil if there is none.
func successor(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}

// shardSeed differs per process: nobody can choose keys that all meet in one shard.
var shardSeed = maphash.MakeSeed()

func shardOf(record string) int { return int(maphash.String(shardSeed, record) % shardCount) }
