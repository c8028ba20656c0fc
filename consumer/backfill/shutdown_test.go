package backfill

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// Brokers that are unavailable for a while don't end the run; what they acknowledged before is not
// sent again.
func TestBrokersComeBack(t *testing.T) {
	brokertest.Bubble(t, func(t *testing.T) {
		began := time.Now()
		var log bytes.Buffer
		inputs := writeInputs(t,
			map[string]string{"f": header + "a,b,1600000007\nc,d,1600000008\n"}, "f")
		var tries []int
		done, err := Run(t.Context(),
			Options{Inputs: inputs, Log: zerolog.New(&log),
				To: publisherFunc(func(m []event.Message) error {
					if tries = append(tries, len(m)); time.Since(began) > 2*time.Minute {
						return nil
					}
					time.Sleep(10 * time.Second)
					if len(m) == 1 {
						return kafkaclient.PublishErrors{0: errors.New("away")}
					}
					return kafkaclient.PublishErrors{1: errors.New("away")}
				})})
		if err != nil || done.Records != 2 {
			t.Errorf("%v, %+v", err, done)
		}
		if len(tries) < 5 || len(tries) > 15 || tries[0] != 2 || tries[1] != 1 || tries[2] != 1 {
			t.Errorf("tries of %d records", tries)
		}
		if logged := log.String(); strings.Count(logged,
			"the brokers don't accept records; retrying") != 1 {
			t.Error(logged)
		}
	})
}

// Retries are bounded in time, and permanent failures are not retried.
func TestBrokersStayAway(t *testing.T) {
	for err, within := range map[error][2]time.Duration{
		errors.New("away"): {retryTime, retryTime + 30*time.Second},
		&kafkaclient.MissingTopicError{Topics: []string{"t"}}: {0, 10 * time.Second},
		&kafkaclient.RefusedError{Err: errors.New("no")}:      {0, 10 * time.Second},
	} {
		brokertest.Bubble(t, func(t *testing.T) {
			began := time.Now()
			inputs := writeInputs(t,
				map[string]string{"f": header + "a,b,1600000007\nc,d,1600000008\n"}, "f")
			_, got := Run(t.Context(),
				Options{Inputs: inputs, Log: zerolog.Nop(),
					To: publisherFunc(func([]event.Message) error {
						time.Sleep(10 * time.Second)
						return kafkaclient.PublishErrors{0: err}
					})})
			if took := time.Since(began); !errors.Is(got, err) || took < within[0] ||
				took > within[1] {
				t.Errorf("%v: %v after %s", err, got, took)
			}
		})
	}
}

// hangingPublisher is a Publisher whose brokers don't respond until its context ends.
type hangingPublisher struct{ began chan struct{} }

func (p hangingPublisher) Publish(ctx context.Context, _ ...event.Message) error {
	close(p.began)
	<-ctx.Done()
	return context.Cause(ctx)
}

// If a run is stopped while brokers don't respond, the log says what it waits for, and the wait is
// short.
func TestRunIsInterruptedWhileBrokersAreSilent(t *testing.T) {
	brokertest.Bubble(t, func(t *testing.T) {
		var log bytes.Buffer
		inputs := writeInputs(t, map[string]string{"f": header + "a,b,1600000007\n"}, "f")
		ctx, cancel := context.WithCancel(t.Context())
		to := hangingPublisher{make(chan struct{})}
		var stopped time.Time
		go func() {
			<-to.began
			time.Sleep(time.Minute)
			stopped = time.Now()
			cancel()
		}()
		file := StateFileOf(inputs)
		_, err := Run(ctx,
			Options{Inputs: inputs, To: to, StateFile: file, State: State{Version: stateVersion},
				Log: zerolog.New(&log)})
		if took := time.Since(stopped); err != ErrInterrupted || took != shutdownLimit {
			t.Errorf("%v after %s", err, took)
		}
		if logged := log.String(); !strings.Contains(logged,
			"stopping: waiting up to 10s for requests in flight; a second Ctrl-C stops "+
				"immediately") {
			t.Error(logged)
		}
		if s, err := file.Load(); err != nil || s == nil || s.At.Rows != 0 {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// endlessReader returns empty lines, or one line, without end.
type endlessReader struct {
	text  []byte
	reads int
	stop  func()
}

func (e *endlessReader) Read(b []byte) (n int, err error) {
	if e.reads++; e.reads == 20 {
		e.stop()
	}
	for n < len(b) {
		n += copy(b[n:], e.text)
	}
	return n, nil
}

// A run is interrupted however far the next row is.
func TestRunIsInterruptedBetweenRows(t *testing.T) {
	for _, text := range []string{"\n", "x"} {
		ctx, cancel := context.WithCancel(t.Context())
		in := &countingReader{ctx: ctx, n: new(atomic.Int64),
			in: io.MultiReader(strings.NewReader(header),
				&endlessReader{text: []byte(text), stop: cancel})}
		s := &source{lines: newLines(in)}
		if err := s.recognize("f", false); err != nil {
			t.Fatal(err)
		}
		for {
			r, _, err := s.next(clock)
			if r.text == nil {
				if err != ErrInterrupted {
					t.Error(err)
				}
				break
			}
		}
	}
}

// A file that grows, shrinks or is replaced during the run is not taken for completely read.
func TestFileThatChanges(t *testing.T) {
	for name, change := range map[string]func(file string) error{
		"grows": func(file string) error {
			f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("e,f,1600000009\n")
			return errors.Join(err, f.Close())
		},
		"shrinks": func(file string) error { return os.Truncate(file, int64(len(header))) },
		"replaced": func(file string) error {
			return errors.Join(os.Remove(file), os.WriteFile(file, []byte(header), 0o600))
		},
	} {
		inputs := writeInputs(t, map[string]string{"f": header + "a,b,1600000007\n"}, "f")
		file := StateFileOf(inputs)
		rejects, err := OpenRejects(filepath.Join(t.TempDir(), "rejects"), 0, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := change(inputs[0].Name); err != nil {
			t.Fatal(err)
		}
		_, err = Run(t.Context(),
			Options{Inputs: inputs, To: &fakeTopic{}, StateFile: file, Rejects: rejects,
				State: State{Version: stateVersion}, Log: zerolog.Nop()})
		var wrong *InputError
		if !errors.As(err, &wrong) ||
			!strings.Contains(err.Error(), "it was written to while it was read") {
			t.Errorf("%s: %v", name, err)
		}
		if s, err := file.Load(); err != nil || s == nil {
			t.Errorf("%s: the state is gone: %v", name, err)
		}
	}
	// A file that is replaced under its name after it was opened was read as it was.
	inputs := writeInputs(t, map[string]string{"f": header + "a,b,1600000007\n"}, "f")
	s, err := inputs[0].open(t.Context(), new(atomic.Int64))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	other := inputs[0].Name + ".new"
	if err := errors.Join(os.WriteFile(other, []byte(header), 0o600),
		os.Rename(other, inputs[0].Name)); err != nil {
		t.Fatal(err)
	}
	if err := s.unchanged(&inputs[0]); err != nil {
		t.Error(err)
	}
}
