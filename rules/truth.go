package rules

// Truth is Kleene's three-valued logic.
type Truth uint8

const (
	Unknown Truth = iota
	False
	True
)

var truthNames = [...]string{Unknown: "unknown", False: "false", True: "true"}

func (t Truth) String() string { return truthNames[t] }

func truth(b bool) Truth {
	if b {
		return True
	}
	return False
}

func (t Truth) not() Truth {
	switch t {
	case True:
		return False
	case False:
		return True
	default:
		return Unknown
	}
}

// outcomes is the set of truths that a condition can still come to, one bit each. It is never empty.
type outcomes uint8

const anyOutcome = outcomes(1<<Unknown | 1<<False | 1<<True)

func only(t Truth) outcomes         { return 1 << t }
func (o outcomes) has(t Truth) bool { return o&(1<<t) != 0 }
func (o outcomes) settled() bool    { return o&(o-1) == 0 }

func (o outcomes) not() outcomes {
	negated := o & only(Unknown)
	if o.has(True) {
		negated |= only(False)
	}
	if o.has(False) {
		negated |= only(True)
	}
	return negated
}

// and is the lower of each pair in the order false, unknown, true.
func (o outcomes) and(p outcomes) outcomes {
	both := (o | p) & only(False)
	both |= o & p & only(True)
	if o.has(Unknown) && p != only(False) || p.has(Unknown) && o != only(False) {
		both |= only(Unknown)
	}
	return both
}

func (o outcomes) or(p outcomes) outcomes { return o.not().and(p.not()).not() }

// letter stands for a settled outcome in a residual.
func (o outcomes) letter() byte {
	switch o {
	case only(True):
		return 'T'
	case only(False):
		return 'F'
	default:
		return 'U'
	}
}
