package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Reader reads the folder of a journal, while a process writes it or after that has ended. It changes nothing there. It
// is for one goroutine; any number may be open.
type Reader struct {
	folder   string
	problems func(Damage)
	files    map[uint64]*openFile
}

// Damage is a part of a file that cannot be read. What is around it can.
type Damage struct {
	File           string
	Offset, Length int64
	Problem        error
}

func (d Damage) String() string {
	return fmt.Sprintf("%s: %d bytes at %d cannot be read: %v", d.File, d.Length, d.Offset, d.Problem)
}

// NewReader reads the journal in a folder. damaged is told of what cannot be read; it may be nil.
func NewReader(folder string, damaged func(Damage)) (*Reader, error) {
	info, err := os.Stat(folder)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("journal: %s is not a folder", folder)
	}
	if damaged == nil {
		damaged = func(Damage) {}
	}
	return &Reader{folder: folder, problems: damaged, files: map[uint64]*openFile{}}, nil
}

// Close lets go of the files.
func (r *Reader) Close() {
	for number := range r.files {
		r.closeFile(number)
	}
}

func (r *Reader) closeFile(number uint64) {
	if f := r.files[number]; f != nil {
		f.Close()
		if f.decoder != nil {
			f.decoder.Close()
		}
		delete(r.files, number)
	}
}

// openFile is a segment that is being read.
type openFile struct {
	*os.File
	name    string
	scanner scanner
	decoder *zstd.Decoder // nil before the head of the file was read
}

// errVersion tells that a file is of a later release.
var errVersion = errors.New("the file was written by a later release of gatepost in a format that this one does not know")

func (r *Reader) open(s segment) (*openFile, error) {
	if f := r.files[s.number]; f != nil {
		return f, nil
	}
	file, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	f := &openFile{File: file, name: s.name}
	f.scanner = scanner{file: file, damage: func(offset, length int64, problem error) {
		r.problems(Damage{s.name, offset, length, problem})
	}}
	r.files[s.number] = f
	return f, nil
}

// blockInfo is what the head of a block says.
type blockInfo struct {
	frame          frame
	offset         int64
	min, max       int64 // when its entries ended
	earliest       int64 // when the first of them began
	entries, bytes int
	bloom          []byte
}

func parseHead(head []byte) (b blockInfo, ok bool) {
	garbled := false
	u := unpacker{buf: head, garbled: &garbled}
	b.min, b.max, b.earliest = u.signed(), u.signed(), u.signed()
	b.entries, b.bytes = u.small(), u.small()
	b.bloom = u.bytes(u.count())
	return b, !garbled && b.bytes <= maxBody
}

// nextBlock finds the next block. Its bloom is good until the next call.
func (f *openFile) nextBlock() (blockInfo, error) {
	info, err := f.Stat()
	if err != nil {
		return blockInfo{}, err
	}
	f.scanner.size = info.Size()
	for {
		frame, head, offset, err := f.scanner.next()
		if err != nil {
			return blockInfo{}, err
		}
		switch {
		case frame.kind == fileFrame:
			if err := f.readFileFrame(frame, head, offset); err != nil {
				f.scanner.damage(offset, f.scanner.size-offset, err) // nothing behind it can be unpacked
				f.scanner.at = f.scanner.size
				return blockInfo{}, io.EOF
			}
		case frame.kind == blockFrame:
			b, ok := parseHead(head)
			if !ok {
				f.scanner.damage(offset, frame.size(), errGarbled)
				continue
			}
			b.frame, b.offset = frame, offset
			return b, nil
		}
	}
}

// checkVersion reads the format at the head of a file.
func checkVersion(head []byte) error {
	if version, n := binary.Uvarint(head); n <= 0 || version > formatVersion {
		return errVersion
	}
	return nil
}

func (f *openFile) readFileFrame(frame frame, head []byte, offset int64) error {
	if err := checkVersion(head); err != nil {
		return err
	}
	body, err := f.scanner.body(frame, offset)
	if err != nil {
		return err
	}
	plain, err := newDecoder(nil)
	if err != nil {
		return err
	}
	defer plain.Close()
	dictionary, err := plain.DecodeAll(body, nil)
	if err != nil {
		return err
	}
	f.decoder, err = newDecoder(dictionary)
	return err
}

func newDecoder(dictionary []byte) (*zstd.Decoder, error) {
	options := []zstd.DOption{zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxBody)}
	if len(dictionary) > 0 {
		options = append(options, zstd.WithDecoderDictRaw(dictionaryID, dictionary))
	}
	return zstd.NewReader(nil, options...)
}

// unpack reads a block. What is wrong with it is reported, and the block is nil then.
func (f *openFile) unpack(b blockInfo) *block {
	body, err := f.scanner.body(b.frame, b.offset)
	if err == nil && f.decoder == nil {
		err = errors.New("the head of the file is missing, which is needed to unpack it")
	}
	if err == nil {
		body, err = f.decoder.DecodeAll(body, make([]byte, 0, b.bytes))
	}
	var k *block
	if err == nil {
		k, err = parseBlock(body)
	}
	if err != nil {
		f.scanner.damage(b.offset, b.frame.size(), err)
		return nil
	}
	return k
}

// visitBlocks calls visit for the blocks of a file that are worth it, until it is told to stop. It stops at the end of what
// has been written, and goes on from there when it is called again.
func (f *openFile) visitBlocks(ctx context.Context, worth func(*blockInfo) bool, visit func(blockInfo) (more bool)) (more bool, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		b, err := f.nextBlock()
		switch {
		case err == io.EOF || err == errTail:
			return true, nil
		case err != nil:
			return false, fmt.Errorf("journal: %s: %w", f.name, err)
		}
		if worth(&b) && !visit(b) {
			return false, nil
		}
	}
}

// since tells whether a file can hold entries that ended at a time or later.
func (s *segment) since(t time.Time) bool { return t.IsZero() || !s.newest.Before(t.Add(-time.Minute)) }
