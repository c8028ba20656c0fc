package sample

import (
	"io"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// Decode decodes gathered metrics.
func Decode(at time.Time, families []*dto.MetricFamily) (*Member, error) {
	return &Member{At: at}, nil
}

// Parse decodes the text format of /metrics.
func Parse(at time.Time, text io.Reader) (*Member, error) {
	return Decode(at, nil)
}
