// Package stacksim simulates the whole stack by seeds: kafka-go, an embedded broker, one to four
// workers and an IM sandbox, in a bubble of virtual time and over a network that the simulation
// controls byte by byte. It consists of tests only: oracles that see only the outside check
// continuously whether the promises of package worker hold. It does not test single decisions;
// package engine/sim does, a thousand times faster.
package stacksim
