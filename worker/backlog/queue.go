package backlog

import "container/heap"

// queue orders conversations by key, smallest first. A conversation is in at most one queue.
type queue struct{ items byKey }

func (q *queue) len() int           { return len(q.items) }
func (q *queue) top() *Conversation { return q.items[0] }

func (q *queue) push(c *Conversation, key int64) {
	c.key = key
	heap.Push(&q.items, c)
}

func (q *queue) pop() *Conversation { return heap.Pop(&q.items).(*Conversation) }

func (q *queue) remove(c *Conversation) { heap.Remove(&q.items, int(c.index)) }

func (q *queue) rekey(key func(*Conversation) int64) {
	for _, c := range q.items {
		c.key = key(c)
	}
	heap.Init(&q.items)
}

type byKey []*Conversation

func (s byKey) Len() int           { return len(s) }
func (s byKey) Less(i, j int) bool { return s[i].key < s[j].key }
func (s byKey) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = int32(i), int32(j)
}
func (s *byKey) Push(x any) {
	c := x.(*Conversation)
	c.index = int32(len(*s))
	*s = append(*s, c)
}
func (s *byKey) Pop() any {
	last := len(*s) - 1
	c := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	return c
}
