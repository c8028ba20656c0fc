package worker

import (
	"strconv"
	"time"

	"markread/consumer"
	"markread/imclient"
	"markread/worker/backlog"
)

// letter is a dead letter on its way: its events finish when it is written.
type letter struct {
	consumer.Letter
	refs   []uint64
	metric string // the code as metrics show it
}

// letterQueue is the letters that are not yet acknowledged, in their order. How many there are counts
// against the bound of what is in memory (core.room).
type letterQueue struct {
	waiting []*letter
	writing int
}

func (q *letterQueue) add(l *letter) { q.waiting = append(q.waiting, l) }

func (q *letterQueue) len() int { return len(q.waiting) + q.writing }

// nextLetters hands out at most n letters to be written; each must be reported with written or unwritten.
func (c *core) nextLetters(n int) []*letter {
	q := &c.letters
	n = min(n, len(q.waiting))
	batch := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	q.writing += n
	return batch
}

// written ends the events that an acknowledged letter stands for.
func (c *core) written(now time.Time, l *letter) {
	c.letters.writing--
	for _, ref := range l.refs {
		c.settle(now, ref, deadLettered)
	}
	c.seen.letterWritten(l.Class, l.metric)
	r := l.Event.Record
	c.log.Warn().Str("topic", r.Topic).Int("partition", r.Partition).Int64("offset", r.Offset).
		Str("class", l.Class).Str("code", l.Code).Int("attempts", l.Attempts).Int("collapsed", l.Collapsed).
		Str("reason", l.Message).Msg("dead-lettered")
}

// unwritten puts letters back that the topic did not take, before those that came since.
func (c *core) unwritten(batch []*letter) {
	if len(batch) == 0 {
		return // the copy below would be for nothing
	}
	c.letters.writing -= len(batch)
	c.letters.waiting = append(batch[:len(batch):len(batch)], c.letters.waiting...)
}

func invalidLetter(now time.Time, e consumer.Event) *letter {
	return &letter{refs: []uint64{uint64(e.Ref)}, Letter: consumer.Letter{
		Event: e, Class: "invalid", Message: e.Invalid.Error(), Collapsed: 1, FailedAt: now,
	}}
}

func failedLetter(now time.Time, class string, attempts int, failure *imclient.Error, d backlog.Dropped) *letter {
	return &letter{refs: d.Refs, metric: codeLabel(failure), Letter: consumer.Letter{
		Event: *d.Record.(*consumer.Event), Class: class, Code: failure.Label, Message: failure.Error(),
		Attempts: attempts, Collapsed: len(d.Refs), FailedAt: now,
	}}
}

// codeLabel is a failure's code as metrics show it: the letter's, but one word for all codes that the
// table doesn't know, so that a server can't make up label values.
func codeLabel(failure *imclient.Error) string {
	if failure == nil {
		return "0"
	}
	if _, known := imclient.LookUp(failure.ErrorCode); failure.ErrorCode != 0 && !known {
		return "other"
	}
	if failure.ErrorCode != 0 {
		return strconv.Itoa(failure.ErrorCode)
	}
	return failure.Label
}
