package imclient

import (
	"slices"
	"strings"
	"testing"
)

// successes returns bodies of the usual form: every non-empty choice of members that includes
// ErrorCode, in every order, with and without white space.
func successes() []string {
	members := []string{`"ErrorCode":0`, `"ErrorInfo":""`, `"ActionStatus":"OK"`}
	var all []string
	var extend func(chosen []string)
	extend = func(chosen []string) {
		if slices.Contains(chosen, members[0]) {
			body := "{" + strings.Join(chosen, ",") + "}"
			spaced := strings.NewReplacer("{", " {\t", ":", "\r:\n ", ",", " , ", "}", " }\r\n")
			all = append(all, body, spaced.Replace(body))
		}
		for _, member := range members {
			if !slices.Contains(chosen, member) {
				extend(append(slices.Clone(chosen), member))
			}
		}
	}
	extend(nil)
	return all
}

func TestIsSuccess(t *testing.T) {
	bodies := append(successes(), `{"ErrorInfo":" !#[]{}:,0~","ErrorCode":0}`)
	if len(bodies) != 23 {
		t.Errorf("%d bodies", len(bodies))
	}
	for _, body := range bodies {
		if !isSuccess([]byte(body)) {
			t.Errorf("not recognised: %q", body)
		}
		for end := range len(strings.TrimSpace(body)) {
			if isSuccess([]byte(body[:end])) {
				t.Errorf("recognised although it is truncated: %q", body[:end])
			}
		}
	}
}

// Whatever is unusual is left to parseResult, whether or not it is a success.
func TestIsSuccessOfUnusualBodies(t *testing.T) {
	for _, body := range []string{
		"", "0", "null", "[]", "{}", `"ErrorCode":0`, `{"ErrorInfo":"","ActionStatus":"OK"}`,
		`{"ErrorCode":1}`, `{"ErrorCode":60007}`, `{"ErrorCode":00}`, `{"ErrorCode":0.0}`,
		`{"ErrorCode":-0}`, `{"ErrorCode":0e1}`, `{"ErrorCode":"0"}`, `{"ErrorCode":null}`,
		`{"ErrorCode":0}{`, `{"ErrorCode":0}0`, `{"ErrorCode":0]`, `["ErrorCode":0}`,
		`{"ErrorCode":0,}`, `{,"ErrorCode":0}`, `{"ErrorCode" 0}`, `{"ErrorCode",0}`,
		`{"ErrorCode":0 "ErrorInfo":""}`, `{"ErrorCode":0,,"ErrorInfo":""}`, `{ErrorCode:0}`,
		`{"errorcode":0}`, `{"ErrorCode ":0}`, `{"Error\u0043ode":0}`, "{\"ErrorCode\":\v0}",
		`{"ErrorCode":0,"ErrorCode":0}`, `{"ErrorCode":0,"ErrorCode":60007}`,
		`{"ErrorInfo":"","ErrorInfo":"","ErrorCode":0}`,
		`{"ActionStatus":"OK","ErrorCode":0,"ActionStatus":"OK"}`,
		`{"ErrorCode":0,"MsgTime":1}`, `{"ErrorCode":0,"":""}`,
		`{"ErrorCode":0,"ErrorInfo":null}`, `{"ErrorCode":0,"ActionStatus":0}`,
		`{"ErrorCode":0,"ErrorInfo":"a\"b"}`, `{"ErrorCode":0,"ErrorInfo":"\q"}`,
		`{"ErrorCode":0,"ErrorInfo":"é"}`,
		"{\"ErrorCode\":0,\"ErrorInfo\":\"a\nb\"}", "{\"ErrorCode\":0,\"ErrorInfo\":\"\x7f\"}",
		"\ufeff" + `{"ErrorCode":0}`, `{"ErrorCode":0}` + strings.Repeat(" ", maxBody),
	} {
		if isSuccess([]byte(body)) {
			t.Errorf("recognised: %.80q", body)
		}
	}
}

func FuzzIsSuccess(f *testing.F) {
	for _, body := range successes() {
		f.Add([]byte(body))
	}
	f.Add([]byte(`{"ErrorCode":0,"ErrorCode":60007}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if result, ok := parseResult(body); isSuccess(body) && (!ok || result.code != 0) {
			t.Errorf("%q: parseResult has %+v, %v", body, result, ok)
		}
	})
}
