package isolation

// list is a doubly linked list whose elements can be removed from the middle. The zero list is
// empty.
type list[T any] struct {
	head, tail *element[T]
	len        int
}

type element[T any] struct {
	value      T
	prev, next *element[T]
}

func (l *list[T]) front() *element[T] { return l.head }

func (l *list[T]) pushBack(v T) *element[T] {
	e := &element[T]{value: v, prev: l.tail}
	if l.tail == nil {
		l.head = e
	} else {
		l.tail.next = e
	}
	l.tail = e
	l.len++
	return e
}

func (l *list[T]) remove(e *element[T]) {
	if e.prev == nil {
		l.head = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		l.tail = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.prev, e.next = nil, nil
	l.len--
}
