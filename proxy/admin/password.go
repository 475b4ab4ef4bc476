package admin

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// hash is a password's hash: Argon2id (RFC 9106) in the form that PHC has for it.
type hash struct {
	memory  uint32 // KiB
	passes  uint32
	lanes   uint8
	salt    []byte
	derived []byte
}

// What Hash uses: the second choice of RFC 9106, 4, for machines whose memory is wanted elsewhere.
const (
	hashMemory = 64 << 10
	hashPasses = 3
	hashLanes  = 4
	saltSize   = 16
	hashSize   = 32
)

// Bounds of a hash that is taken from a configuration: checking a password must not take the machine down.
const (
	maxMemory = 1 << 20
	maxPasses = 16
	maxLanes  = 16
)

// maxPassword bounds what is hashed, in bytes.
const maxPassword = 1024

// Hash returns the hash of a password, for the configuration.
func Hash(password string) (string, error) {
	switch {
	case len(password) < 8:
		return "", errors.New("a password of fewer than 8 characters is guessed soon")
	case len(password) > maxPassword:
		return "", fmt.Errorf("a password has at most %d bytes", maxPassword)
	}
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails
	h := hash{memory: hashMemory, passes: hashPasses, lanes: hashLanes, salt: salt}
	h.derived = h.derive(password, hashSize)
	return h.String(), nil
}

// String writes what parseHash reads.
func (h *hash) String() string {
	encode := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.passes, h.lanes, encode(h.salt), encode(h.derived))
}

func (h *hash) derive(password string, size int) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.lanes, uint32(size))
}

// matches takes as long for a wrong password as for the right one.
func (h *hash) matches(password string) bool {
	return len(password) <= maxPassword && subtle.ConstantTimeCompare(h.derive(password, len(h.derived)), h.derived) == 1
}

var errHash = errors.New("not a hash as `gatepost admin password` prints it ($argon2id$v=19$m=…,t=…,p=…$…$…)")

func parseHash(text string) (*hash, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return nil, errHash
	}
	cost := strings.Split(parts[3], ",")
	if len(cost) != 3 {
		return nil, errHash
	}
	memory, ok1 := number(cost[0], "m=", maxMemory)
	passes, ok2 := number(cost[1], "t=", maxPasses)
	lanes, ok3 := number(cost[2], "p=", maxLanes)
	if !ok1 || !ok2 || !ok3 || memory < 8*lanes { // RFC 9106, 3.1
		return nil, fmt.Errorf("%w; m is at most %d, t %d, p %d", errHash, maxMemory, maxPasses, maxLanes)
	}
	decode := base64.RawStdEncoding.Strict().DecodeString
	salt, err1 := decode(parts[4])
	derived, err2 := decode(parts[5])
	if err1 != nil || err2 != nil || len(salt) < 8 || len(salt) > 64 || len(derived) < 16 || len(derived) > 64 {
		return nil, errHash
	}
	return &hash{memory: memory, passes: passes, lanes: uint8(lanes), salt: salt, derived: derived}, nil
}

func number(text, prefix string, limit uint32) (uint32, bool) {
	digits, ok := strings.CutPrefix(text, prefix)
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), ok && err == nil && n >= 1 && uint32(n) <= limit
}
