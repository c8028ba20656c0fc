package deadletter

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"markread/consumer/event"
)

// README.md has every header, state and name of the JSON document.
func TestDocsFormat(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	has := func(name string) {
		if !strings.Contains(text, "`"+name+"`") && !strings.Contains(text, `"`+name+`"`) {
			t.Errorf("README.md does not mention %s", name)
		}
	}
	smallest := event.Omissions[len(event.Omissions)-1]
	headers := event.DeadLetter{FailedAt: time.Now()}.Encode(smallest).Headers
	headers = append(headers, ResolutionMessage(event.Record{}, Replayed).Headers...)
	for _, h := range headers {
		has(h.Key)
	}
	for _, s := range AllStates() {
		has(s.String())
	}
	for _, class := range []string{
		event.ClassInvalid, event.ClassRejected, event.ClassExhausted,
	} {
		has(class)
	}
	for _, of := range []reflect.Type{
		reflect.TypeFor[letterJSON](), reflect.TypeFor[event.Origin](),
	} {
		for i := range of.NumField() {
			name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			has(name)
		}
	}
}
