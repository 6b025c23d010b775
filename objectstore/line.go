package objectstore

import "slices"

// patience is how often others may go ahead of a class that waits: so one of
// every 16 goes to a lower class.
const patience = 15

// line is the waiters of each class, in the order they came. It decides who is
// next and does nothing else.
type line struct {
	waiters [classes][]*waiter
	passed  [classes]int // how often higher classes went ahead
}

type waiter struct {
	class Class
	n     int           // how much it waits for
	ready chan struct{} // closed when it is its turn
}

func (l *line) join(class Class, n int) *waiter {
	w := &waiter{class: class, n: n, ready: make(chan struct{})}
	l.waiters[class] = append(l.waiters[class], w)
	return w
}

// leave takes a waiter out that gave up; false if it was its turn before.
func (l *line) leave(w *waiter) bool {
	i := slices.Index(l.waiters[w.class], w)
	if i < 0 {
		return false
	}
	l.waiters[w.class] = slices.Delete(l.waiters[w.class], i, i+1)
	if len(l.waiters[w.class]) == 0 {
		l.passed[w.class] = 0
	}
	return true
}

// empty reports whether nobody waits that a newcomer of a class would have to
// let go ahead.
func (l *line) empty(class Class) bool {
	for _, list := range l.waiters[:class+1] {
		if len(list) > 0 {
			return false
		}
	}
	return true
}

// choose says of which class the next one is, among those before limit: of the
// highest, unless the patience of a lower one is at its end.
func (l *line) choose(limit Class) (chosen Class, ok bool) {
	for c := range limit {
		if len(l.waiters[c]) == 0 {
			continue
		}
		if !ok || l.passed[c] >= patience && l.passed[c] > l.passed[chosen] {
			chosen, ok = c, true
		}
	}
	return chosen, ok
}

// take takes the first of a class out, which goes ahead of the lower ones.
func (l *line) take(class Class) *waiter {
	for c := class + 1; c < classes; c++ {
		if len(l.waiters[c]) > 0 {
			l.passed[c]++
		}
	}
	l.passed[class] = 0
	w := l.waiters[class][0]
	l.waiters[class][0] = nil
	l.waiters[class] = l.waiters[class][1:]
	return w
}

// next takes out whose turn it is, nil if nobody before limit waits.
func (l *line) next(limit Class) *waiter {
	class, ok := l.choose(limit)
	if !ok {
		return nil
	}
	return l.take(class)
}
