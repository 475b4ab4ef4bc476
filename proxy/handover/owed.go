package handover

import "sync"

// maxOwed bounds what is counted while nobody is there to count it: more than a busy site's in that second.
const maxOwed = 1 << 14

// owed is what was counted while nobody was there to count it. It is safe for concurrent use.
type owed[T any] struct {
	mu   sync.Mutex // guards list
	list []T
}

func (o *owed[T]) add(one T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.list) < maxOwed {
		o.list = append(o.list, one)
	}
}

func (o *owed[T]) pay(to func(T)) {
	o.mu.Lock()
	list := o.list
	o.list = nil
	o.mu.Unlock()
	for _, one := range list {
		to(one)
	}
}

// rangePage is how many items go into one frame.
const rangePage = 1000

// pages collects what is sent in pages.
type pages[T any] struct {
	send func(any) error
	page []T
	err  error
}

// add takes one more; false: nobody wants it.
func (p *pages[T]) add(one T) bool {
	if p.page = append(p.page, one); len(p.page) == rangePage {
		p.err = p.send(p.page)
		p.page = p.page[:0]
	}
	return p.err == nil
}

// end sends the last page, unless err has kept it from being complete.
func (p *pages[T]) end(err error) error {
	if err == nil {
		err = p.err
	}
	if err == nil && len(p.page) > 0 {
		err = p.send(p.page)
	}
	return err
}
