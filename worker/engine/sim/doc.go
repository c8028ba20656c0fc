// Package sim simulates the engine by seeds: one to four workers with real engines and offset
// trackers, against models of Kafka, the IM server and the dead-letter topic, in virtual time and
// through all the trouble that a seed chooses. It consists of tests only. It uses the engine as
// package worker does, and keeps an opinion of its own of what must happen. It has no network and
// no goroutines; package stacksim tests those.
package sim
