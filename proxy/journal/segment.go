package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
)

// formatVersion is written at the head of each segment. Releases that only add parts, fields, kinds and values at the
// end of fields keep it: an older reader passes over what it does not know. A reader refuses a higher one.
const formatVersion = 1

const (
	segmentMaxAge = 24 * time.Hour
	maxSegment    = 64 << 20
	minDictionary = 64
	maxDictionary = 32 << 10
)

// openSegment is the file that is being written.
type openSegment struct {
	segment
	file    file
	encoder *zstd.Encoder
	created time.Time
	failed  bool // something half written could not be taken back: nothing more goes into this file

	compressed, frame []byte // of the block before, to be used again
}

// newSegment creates a file. Its blocks are compressed with first, the body of the one that comes first, as a
// dictionary: a quiet server writes a block for each transaction, and all of them name the same facts and rules.
func newSegment(d disk, folder string, number uint64, now time.Time, first []byte) (*openSegment, error) {
	s := &openSegment{segment: segment{number: number, name: segmentName(number, now), newest: now}, created: now}
	s.path = filepath.Join(folder, s.name)
	dictionary := bytes.Clone(first[:min(len(first), maxDictionary)]) // the encoder keeps it
	if len(dictionary) < minDictionary {
		dictionary = nil
	}
	packed, err := newEncoder(nil)
	if err != nil {
		return nil, err
	}
	if s.encoder, err = newEncoder(dictionary); err != nil {
		return nil, err
	}
	if s.file, err = d.Create(s.path); err != nil {
		return nil, err
	}
	head := binary.AppendUvarint(nil, formatVersion)
	head = binary.AppendVarint(head, now.UnixNano())
	if err := s.write(appendFrame(nil, fileFrame, head, packed.EncodeAll(dictionary, nil))); err != nil {
		return nil, errors.Join(err, s.file.Close(), d.Remove(s.path))
	}
	return s, nil
}

func newEncoder(dictionary []byte) (*zstd.Encoder, error) {
	options := []zstd.EOption{zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(512 << 10),
		zstd.WithEncoderCRC(false), zstd.WithZeroFrames(true)} // the frame has a checksum
	if dictionary != nil {
		options = append(options, zstd.WithEncoderDictRaw(dictionaryID, dictionary))
	}
	return zstd.NewWriter(nil, options...)
}

const dictionaryID = 1

// append writes a block. After an error nothing of it is in the file, or the segment has failed.
func (s *openSegment) append(head, body []byte, now time.Time) error {
	s.compressed = s.encoder.EncodeAll(body, s.compressed[:0])
	s.frame = appendFrame(s.frame[:0], blockFrame, head, s.compressed)
	if err := s.write(s.frame); err != nil {
		return err
	}
	s.newest = now
	return nil
}

func (s *openSegment) write(b []byte) error {
	_, err := s.file.Write(b)
	if err == nil {
		s.size += int64(len(b))
		return nil
	}
	if cut := s.file.Truncate(s.size); cut != nil {
		s.failed = true
		err = errors.Join(err, cut)
	}
	return err
}

// done tells whether the next block belongs into a new file.
func (s *openSegment) done(now time.Time, limit int64) bool {
	age := now.Sub(s.created)
	return s.failed || s.size >= limit || age >= segmentMaxAge || age < 0
}
