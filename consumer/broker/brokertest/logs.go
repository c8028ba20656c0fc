package brokertest

import (
	"bytes"
	"encoding/json"
	"sync"
)

// Logs collects log output. It is safe for concurrent use.
type Logs struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (l *Logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes.Write(b)
}

func (l *Logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes.String()
}

// Lines returns the fields of each line that has this message.
func (l *Logs) Lines(message string) (lines []map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range bytes.Split(l.bytes.Bytes(), []byte("\n")) {
		var fields map[string]any
		if json.Unmarshal(line, &fields) == nil && fields["message"] == message {
			lines = append(lines, fields)
		}
	}
	return lines
}
