// Package admin creates topics and describes brokers, topics and lag, for `run`, `check`, `status`
// and the commands that publish. It reads no event's content and belongs to no group; a group is
// described by package consumer, which knows what its members write for each other.
//
// It promises to change nothing but what CheckTopics is told to create, and to return within 8 s
// (kafkaclient.DescribeTimeout), whatever does not answer, with what is known by then; only
// CheckTopics waits for brokers until its context ends.
package admin
