package backfill

import "strings"

// Stands in for consumer.MeantField.
func meantField(name string) string {
	s := strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(name))
	switch s {
	case "reportaccount":
		return reportColumn
	case "peeraccount":
		return peerColumn
	case "msgreadtime", "msgreadedtime":
		return readTimeColumn
	}
	return ""
}
