package journal

import "fmt"

// Prepare makes ready what another configuration of the same folder needs, and returns what puts it in force: for entries
// that come later. What is kept already stays as it is, within the new bounds.
func (j *Journal) Prepare(c Config) (apply func(), err error) {
	var key []byte
	if c.Addresses == Keyed {
		if key, err = makeKey(c.Path); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
	}
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.config.Store(&c)
		if j.current != nil {
			j.seal() // the writer looks for it soon: its first entry woke it
		}
		j.current = newBuilder(newDisguise(c.Addresses, key))
	}, nil
}
