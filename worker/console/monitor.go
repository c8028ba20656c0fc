package console

import (
	"context"
	"os"
	"time"

	"markread/worker/console/overview"
	"markread/worker/console/sample"
)

// sampleEvery is how often a worker is sampled: the overview's age is less than that.
const sampleEvery = time.Second

// sample updates the overview of the own worker until ctx ends. It reads the same metrics as a
// group's console, without HTTP.
func (s *site) sample(ctx context.Context) {
	if s.Source == nil {
		return // a group's monitor is updated by whoever reads its members
	}
	name, err := os.Hostname()
	if err != nil {
		name = "this worker"
	}
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		s.Monitor.Update(s.input(name))
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// input returns the worker's present state.
func (s *site) input(name string) overview.Input {
	now := time.Now()
	worker := overview.Member{Worker: overview.Worker{Name: name, Version: s.Version,
		Controllable: s.canControl()}}
	families, err := s.Gatherer.Gather()
	if err == nil {
		worker.Sample, err = sample.Decode(now, families)
	}
	if err != nil {
		worker.Sample = nil
		s.failures.Pass("sample", s.Log.Warn()).Err(err).
			Msg("the worker's metrics can't be gathered for the console")
	}
	details := s.Source.Details()
	return overview.Input{At: now, Members: []overview.Member{worker}, Details: &details}
}
