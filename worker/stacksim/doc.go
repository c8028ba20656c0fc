// Package stacksim simulates the whole stack by seeds: kafka-go, an embedded broker, one to four
// workers and an IM sandbox, in a bubble of virtual time and over a network whose every byte is
// ours. It consists of tests only: oracles that see nothing but the outside judge all the time
// whether the promises of package worker hold. It does not test decisions one by one; package
// engine/sim does, a thousand times faster.
package stacksim
