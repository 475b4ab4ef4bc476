package quarantine

// Reload puts other bounds in force: size, keep and warn. The folder stays. Messages whose time is up sooner now are told of
// in the log first, as ever; what takes more room than there is now stays, and nothing is added.
func (q *Quarantine) Reload(c Config) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.config.Size, q.config.Keep, q.config.Warn = c.Size, c.Keep, c.Warn
}

func (q *Quarantine) size() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return int64(q.config.Size)
}
