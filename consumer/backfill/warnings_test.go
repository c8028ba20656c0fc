package backfill

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// Warnings about accounts are logged once; that further rejects are not shown only if there are
// more.
func TestWarningsAreLoggedOnce(t *testing.T) {
	inputs := writeInputs(t,
		map[string]string{"f": header + " a,b,1600000007\na,b ,1600000007\n" +
			strings.Repeat("x\n", loggedRejects)}, "f")
	var log bytes.Buffer
	if _, err := Run(t.Context(), Options{Inputs: inputs, Log: zerolog.New(&log)}); err != nil {
		t.Fatal(err)
	}
	if logged := log.String(); strings.Count(logged, "begins or ends with a space") != 1 ||
		strings.Contains(logged, "further rejects") {
		t.Error(logged)
	}
}

// An account that a spreadsheet has rounded is logged once, whatever the row or file.
func TestRoundedAccountIsLoggedOnce(t *testing.T) {
	inputs := writeInputs(t, map[string]string{
		"f": header + "C++,1E7,1600000007\n12345678,1.76543E+17,1600000007\n2E+10,b,1600000007\n",
		"g": header + "a,2E+10,1600000007\n",
	}, "f", "g")
	var log bytes.Buffer
	done, err := Run(t.Context(), Options{Inputs: inputs, Log: zerolog.New(&log)})
	if logged := log.String(); err != nil || done.Records != 4 ||
		strings.Count(logged, "\n") != 1 ||
		!strings.Contains(logged,
			`"line":3,"account":"1.76543E+17","do":"export the column as text",`+
				`"message":"an account looks like a long number`) {
		t.Errorf("%+v, %v\n%s", done, err, logged)
	}
}

func TestRoundedAccounts(t *testing.T) {
	for account, want := range map[string]bool{
		"1.76543E+17": true, "1.76543e+17": true, "1E+17": true, "1,76543E+17": true,
		"1.76543E17": true, "9E+017": true,
		"1E17": false, "7e12": false, "17": false, "1.7": false, "a.5E+7": false, "10.5E+7": false,
		"1.7E+": false, "1.E+7": false, "1.7E+7x": false, "E+7": false,
	} {
		if rounded.MatchString(account) != want {
			t.Errorf("%s: rounded is %t", account, !want)
		}
	}
}
