// Package sim simulates the engine by seeds: one to four workers with real engines and offset
// trackers, against models of Kafka, the IM server and the dead-letter topic, in virtual time and
// with all the faults that a seed chooses. It consists of tests only. It uses the engine as package
// worker does, and computes independently what must happen. It has no network and no goroutines;
// package stacksim tests those.
package sim
