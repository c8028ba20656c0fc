package imclient_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"markread/imclient"
)

// The contract's table of classes.
var contract = map[imclient.Class][]int{
	imclient.Transient: {60004, 60005, 60008, 60013, 60014, 70169, 70202, 70500, 20004, 20005,
		90992, 90994, 90995, 91000},
	imclient.Throttled: {60007, 60011, 60018, 60019},
	imclient.Held: {
		20002, 60002, 60006, 60009, 60010, 60012, 60016, 60017, 60020, 60021, 60025, 60026, 60027,
		60028,
		70001, 70002, 70003, 70005, 70009, 70013, 70014, 70016, 70020, 70050, 70051, 70052, 70403,
		72000, 72001, 72002, 80005, 90009,
	},
	imclient.Rejected: {60003, 60015, 70107, 70402, 20003, 90001, 90003, 90008, 90012, 90048,
		93000},
}

func TestCodeTableMatchesContract(t *testing.T) {
	rows := 0
	for class, codes := range contract {
		for _, code := range codes {
			rows++
			if row, ok := imclient.LookUp(code); !ok || row.Class != class || row.Code != code {
				t.Errorf("%d is %v, %v; want %v", code, row.Class, ok, class)
			}
		}
	}
	table := imclient.Codes()
	if len(table) != rows {
		t.Errorf("%d rows, want %d", len(table), rows)
	}
	if !slices.IsSortedFunc(table, func(a, b imclient.Code) int { return a.Code - b.Code }) {
		t.Error("the table is not in order, or has a code twice")
	}
	for _, row := range table {
		if len(row.Meaning) < 10 || len(row.Remedy) < 10 ||
			!strings.Contains(row.Source, "/document/") {
			t.Errorf("%d lacks something: %+v", row.Code, row)
		}
		for _, text := range []string{row.Meaning, row.Remedy} {
			if strings.HasSuffix(text, ".") || strings.Contains(text, "\n") ||
				strings.TrimSpace(text) != text {
				t.Errorf("%d: %q does not fit into a sentence", row.Code, text)
			}
		}
	}
	table[0].Class = imclient.Rejected
	if imclient.Codes()[0].Class == imclient.Rejected {
		t.Error("the caller got the table itself")
	}
}

func TestCodesThatANewSignatureHelps(t *testing.T) {
	want := []int{20002, 60004, 60005, 60025, 70001, 70002, 70003, 70005, 70009, 70016, 70050,
		70052}
	var got []int
	for _, row := range imclient.Codes() {
		if row.NewSignatureHelps {
			got = append(got, row.Code)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestUnknownCodesAreTransient(t *testing.T) {
	for _, code := range []int{-1, 1, 60001, 99999, 120001} {
		row, ok := imclient.LookUp(code)
		if ok || row.Class != imclient.Transient || row.Code != code || row.Remedy == "" ||
			row.Meaning == "" {
			t.Errorf("%d: %+v, %v", code, row, ok)
		}
	}
}

func TestClassNames(t *testing.T) {
	for class, want := range map[imclient.Class]string{
		imclient.Transient: "transient", imclient.Throttled: "throttled", imclient.Held: "held",
		imclient.Rejected: "rejected",
	} {
		if class.String() != want {
			t.Errorf("%d is %s", class, class)
		}
	}
}

func TestEveryErrorHasARemedy(t *testing.T) {
	cause := errors.New("the cause")
	labels := []string{
		imclient.LabelTimeout, imclient.LabelConnect, imclient.LabelTLS, imclient.LabelReset,
		imclient.LabelAnswer,
		imclient.LabelKey, imclient.LabelRequest, "http_302", "http_403", "http_429", "http_502",
		"",
	}
	texts := make(map[string]bool)
	for _, label := range labels {
		e := &imclient.Error{Label: label, Err: cause}
		text := e.Error()
		if !strings.Contains(text, "the cause") || !strings.Contains(text, e.Meaning()) ||
			!strings.HasSuffix(text, "What to do: "+e.Remedy()) || len(e.Remedy()) < 10 {
			t.Errorf("%s: %s", label, text)
		}
		if texts[text] || !errors.Is(e, cause) {
			t.Errorf("%s: nothing of its own, or no cause: %s", label, text)
		}
		texts[text] = true
	}
}
