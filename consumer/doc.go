// Package consumer is the worker's view of Kafka.
package consumer
