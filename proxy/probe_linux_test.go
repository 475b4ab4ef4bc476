package proxy

// hold keeps everybody who waits from being woken.
func (l *lot) hold() (release func()) {
	l.mu.Lock()
	return l.mu.Unlock
}
