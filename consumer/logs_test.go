package consumer_test

import (
	"bytes"
	"encoding/json"
	"sync"
)

// logs keeps what was logged. It may be read while a client goes on writing.
type logs struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes.String()
}

// lines returns the fields of the lines with this message.
func (l *logs) lines(message string) (lines []map[string]any) {
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
