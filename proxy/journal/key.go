package journal

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const keyBytes = 32

// readKey reads the key that hides local parts.
func readKey(folder string) ([]byte, error) {
	path := filepath.Join(folder, keyName)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(key) != keyBytes {
		return nil, fmt.Errorf("%s is not a key of this journal: %d bytes in hexadecimal are expected; with another key, addresses of earlier entries are not found any more", path, keyBytes)
	}
	return key, nil
}

// makeKey reads the key, and makes it at the first start. It is synced before it is used: with a key that a crash takes
// away, no address of the time before could be found.
func makeKey(folder string) ([]byte, error) {
	key, err := readKey(folder)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key = make([]byte, keyBytes)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	path := filepath.Join(folder, keyName)
	fresh := path + ".new"
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(f, "%x\n", key)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	return key, os.Rename(fresh, path)
}

// Disguise returns an address as a journal keeps it, to search for it. Where addresses are keyed it needs the key, which
// only the owner of the folder can read.
func Disguise(c Config, address string) (string, error) {
	switch c.Addresses {
	case Cut:
		return "", errors.New("journal.addresses is cut: the journal does not know addresses; ask for the id or for the client's address")
	case Keyed:
		key, err := readKey(c.Path)
		if err != nil {
			return "", fmt.Errorf("journal.addresses is keyed, and the key is needed to find an address: %w", err)
		}
		return newDisguise(Keyed, key).address(address), nil
	}
	return address, nil
}
