package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// job is what a child has to do: the first line of its standard input.
type job struct {
	Args     []string // role program: the command line
	Brokers  []string
	Topic    string
	Group    string
	URL      string // of the calls, signed, without random
	Events   int
	InFlight int
	Rate     int // calls a second; 0: no limit
}

// playRole runs one of the bench's own processes, which ends with its standard input.
func playRole(ctx context.Context, role string, s Streams,
	program func(context.Context, []string) error) error {
	in := bufio.NewReader(s.In)
	text, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("role %s: no job on standard input: %w", role, err)
	}
	var j job
	if err := json.Unmarshal(text, &j); err != nil {
		return fmt.Errorf("role %s: %w", role, err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		os.Exit(1) // the bench has ended
	}()
	switch role {
	case "program":
		return program(ctx, j.Args)
	case "broker":
		return runBroker(ctx, s.Out)
	case "loop":
		return runKafkaLoop(ctx, j)
	case "post":
		return runPostLoop(ctx, j)
	case "fetch":
		return runFetchLoop(ctx, j, s.Out)
	}
	return fmt.Errorf("unknown role %q", role)
}

// process is a child.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.Closer
	output output
	exited chan struct{}
}

// start starts a child that runs file, a build of this program.
func start(ctx context.Context, file, role string, j job) (*process, error) {
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	p := &process{name: role, exited: make(chan struct{})}
	if len(j.Args) > 0 {
		p.name = j.Args[0]
	}
	p.cmd = exec.CommandContext(ctx, file, "bench", "--role", role)
	for _, v := range os.Environ() { // the user's configuration is not the bench's
		if !strings.HasPrefix(v, "MARKREAD_") {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Env = append(p.cmd.Env, "MARKREAD_IM_KEY="+appKey)
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // its output has more than the status
		close(p.exited)
	}()
	if _, err := stdin.Write(append(text, '\n')); err != nil {
		p.stop()
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	return p, nil
}

// stop kills the child: nothing that it could still do is measured.
func (p *process) stop() {
	_ = p.cmd.Process.Kill() // an error means that it has ended
	<-p.exited
	_ = p.stdin.Close()
}

// line waits until the child prints a match of the pattern, and returns its first submatch.
func (p *process) line(ctx context.Context, pattern string) (string, error) {
	re := regexp.MustCompile(pattern)
	var found []string
	err := p.wait(ctx, 5*time.Millisecond, func() (bool, error) {
		found = re.FindStringSubmatch(p.output.String())
		return found != nil, nil
	})
	if err != nil {
		return "", err
	}
	return found[1], nil
}

// patience is how long a child may take for anything.
const patience = 10 * time.Minute

// wait polls until done, and fails if the child ends before.
func (p *process) wait(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	limit := time.After(patience)
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return fmt.Errorf("%s: not done after %v; it printed:\n%s", p.name, patience,
				p.output.tail())
		case <-p.exited:
			if ok, err := done(); ok || err != nil {
				return err
			}
			return fmt.Errorf("%s ended (%v); it printed:\n%s", p.name, p.cmd.ProcessState,
				p.output.tail())
		}
	}
}

// cpu returns the CPU time in seconds, user and system, that the child has used so far.
func (p *process) cpu() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// the second field, the name in parentheses, may contain spaces
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat is too short")
	}
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100, errors.Join(err1, err2) // Linux counts in 1/100 s for all programs
}

// memory returns a value of the child's /proc/PID/status, such as VmRSS, in bytes.
func (p *process) memory(name string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/PID/status has no %s", name)
}

// output collects what a child prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *output) tail() string {
	text := o.String()
	return text[max(0, len(text)-4000):]
}
