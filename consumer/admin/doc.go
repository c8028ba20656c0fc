// Package admin creates topics and describes brokers, topics and lag, for `run`, `check`, `status`
// and the commands that publish. It does not interpret events, beyond the event time that Lag
// needs, and it joins no group. Package consumer describes groups, because it knows what their
// members write for each other.
//
// It promises to change nothing, except that CheckTopics creates missing topics when asked to. It
// returns within 8 s (kafkaclient.DescribeTimeout) with what is known by then, even if brokers
// don't respond; only CheckTopics waits for brokers until its context ends.
package admin
