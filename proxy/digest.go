package proxy

import (
	"crypto/sha256"
	"hash"
	"sync"
)

// digests are for messages whose digest is wanted.
var digests = sync.Pool{New: func() any { return sha256.New() }}

// takeDigest begins the digest of a message, if somebody wants it.
func (v *Service) takeDigest() hash.Hash {
	if !v.Digest && v.Duplicates != SuppressDuplicates {
		return nil
	}
	h := digests.Get().(hash.Hash)
	h.Reset()
	return h
}

// sum tells the digest of a message that is complete.
func (in *incoming) sum() {
	if in.hash != nil {
		in.hash.Sum(in.digest[:0])
	}
}

// endDigest gives back what computed the digest.
func (in *incoming) endDigest() {
	if in.hash != nil {
		digests.Put(in.hash)
		in.hash = nil
	}
}
