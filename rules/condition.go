package rules

// condition is a compiled expression that is true, false or unknown.
type condition interface {
	// match evaluates it over what is known now.
	match(f *Facts) Truth
	// possible is what it can still come to while facts are pending.
	possible(v view) outcomes
	// residual appends what is left of it: a letter once it is settled, else the residuals of its parts in brackets.
	residual(dst []byte, v view) []byte
}

// view is the facts as of a stage: those of later stages that are not there yet are pending.
type view struct {
	facts *Facts
	now   int
	// inScore is set inside the residuals that stand for a pending `score`; they do not repeat each other.
	inScore bool
}

func (v view) pending(x *field) bool {
	return x.Stage > v.now && !v.facts.Settled(x.Group)
}

// constant is a condition that reads no facts.
type constant Truth

func (c constant) match(*Facts) Truth                 { return Truth(c) }
func (c constant) possible(view) outcomes             { return only(Truth(c)) }
func (c constant) residual(dst []byte, _ view) []byte { return append(dst, only(Truth(c)).letter()) }

type not struct{ operand condition }

func (n not) match(f *Facts) Truth               { return n.operand.match(f).not() }
func (n not) possible(v view) outcomes           { return n.operand.possible(v).not() }
func (n not) residual(dst []byte, v view) []byte { return residualOf(n.possible(v), dst, v, n.operand) }

type and []condition

func (n and) match(f *Facts) Truth {
	result := True
	for _, operand := range n {
		switch operand.match(f) {
		case False:
			return False
		case Unknown:
			result = Unknown
		}
	}
	return result
}

func (n and) possible(v view) outcomes {
	result := only(True)
	for _, operand := range n {
		result = result.and(operand.possible(v))
	}
	return result
}

func (n and) residual(dst []byte, v view) []byte { return residualOf(n.possible(v), dst, v, n...) }

type or []condition

func (n or) match(f *Facts) Truth {
	result := False
	for _, operand := range n {
		switch operand.match(f) {
		case True:
			return True
		case Unknown:
			result = Unknown
		}
	}
	return result
}

func (n or) possible(v view) outcomes {
	result := only(False)
	for _, operand := range n {
		result = result.or(operand.possible(v))
	}
	return result
}

func (n or) residual(dst []byte, v view) []byte { return residualOf(n.possible(v), dst, v, n...) }

// same is the equality of two conditions.
type same struct{ left, right condition }

func (n same) match(f *Facts) Truth {
	left, right := n.left.match(f), n.right.match(f)
	if left == Unknown || right == Unknown {
		return Unknown
	}
	return truth(left == right)
}

func (n same) possible(v view) outcomes {
	left, right := n.left.possible(v), n.right.possible(v)
	if left == only(Unknown) || right == only(Unknown) {
		return only(Unknown)
	}
	if left.settled() && right.settled() {
		return only(truth(left == right))
	}
	return anyOutcome
}

func (n same) residual(dst []byte, v view) []byte {
	return residualOf(n.possible(v), dst, v, n.left, n.right)
}

func residualOf(o outcomes, dst []byte, v view, operands ...condition) []byte {
	if o.settled() {
		return append(dst, o.letter())
	}
	dst = append(dst, '(')
	for _, operand := range operands {
		dst = operand.residual(dst, v)
	}
	return append(dst, ')')
}

// flag is a fact that is true or false.
type flag struct{ *field }

func (n flag) match(f *Facts) Truth {
	value, ok := n.boolean(f)
	if !ok {
		return Unknown
	}
	return truth(value)
}

func (n flag) possible(v view) outcomes {
	if v.pending(n.field) {
		return anyOutcome
	}
	return only(n.match(v.facts))
}

func (n flag) residual(dst []byte, v view) []byte { return leaf(n.possible(v), dst) }

// known asks whether a fact is there. It is never unknown itself.
type known struct{ *field }

func (n known) match(f *Facts) Truth { return truth(n.present(f)) }

func (n known) possible(v view) outcomes {
	if v.pending(n.field) {
		return only(True) | only(False)
	}
	return only(n.match(v.facts))
}

func (n known) residual(dst []byte, v view) []byte { return leaf(n.possible(v), dst) }

// leaf is the residual of a condition on a single fact.
func leaf(o outcomes, dst []byte) []byte {
	if o.settled() {
		return append(dst, o.letter())
	}
	return append(dst, 'P')
}

// single tests one value.
type single[T any] struct {
	operand expression[T]
	test    func(T) bool
}

func (n single[T]) match(f *Facts) Truth {
	value, ok := n.operand.value(f)
	if !ok {
		return Unknown
	}
	return truth(n.test(value))
}

func (n single[T]) possible(v view) outcomes {
	if n.operand.pending(v) {
		return anyOutcome
	}
	return only(n.match(v.facts))
}

func (n single[T]) residual(dst []byte, v view) []byte {
	if o := n.possible(v); o.settled() {
		return append(dst, o.letter())
	}
	return append(n.operand.residual(append(dst, '('), v), ')')
}

// pair compares two values.
type pair[A, B any] struct {
	left  expression[A]
	right expression[B]
	test  func(A, B) bool
}

func (n pair[A, B]) match(f *Facts) Truth {
	left, ok := n.left.value(f)
	if !ok {
		return Unknown
	}
	right, ok := n.right.value(f)
	if !ok {
		return Unknown
	}
	return truth(n.test(left, right))
}

// possible knows that a comparison with a value that stays absent stays unknown.
func (n pair[A, B]) possible(v view) outcomes {
	leftPending, rightPending := n.left.pending(v), n.right.pending(v)
	if !leftPending && !rightPending {
		return only(n.match(v.facts))
	}
	if !leftPending {
		if _, ok := n.left.value(v.facts); !ok {
			return only(Unknown)
		}
	}
	if !rightPending {
		if _, ok := n.right.value(v.facts); !ok {
			return only(Unknown)
		}
	}
	return anyOutcome
}

func (n pair[A, B]) residual(dst []byte, v view) []byte {
	if o := n.possible(v); o.settled() {
		return append(dst, o.letter())
	}
	dst = n.left.residual(append(dst, '('), v)
	return append(n.right.residual(dst, v), ')')
}
