package imclient_test

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"markread/imclient"
)

// The vendor's own inputs, from the README of its Go library; the results were computed with its
// Python library at the time vectorTime.
const (
	vectorApp  = 1400000000
	vectorKey  = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
	halfYear   = 15552000 * time.Second
	xiaojunMAC = "LvA7d/Iw7gSsnskvVzBDPOCCDbuNCw4GHwTC0bip+B4="
	adminMAC   = "yLAe+w7WUeUuqbV9h/TX78u21oTGi+i9Zp1u3PpnY60="
	userbufMAC = "QjT201xPkXk/aM1e+y0vakZb0K2iPrFue++0s5y6bFM="
	xiaojunSig = "eJyrVgrxCdYrSy1SslJQMtIzUNJRAItkpqTmlWSmZUIkKjIT87NK82CSxSnZiQUFmSlAKU" +
		"MTAyiAyqVWFGQWpYJkTE1NjRDiJZm5YFFzNPXFmekgG3zKHM1T9D3LzdODi-OKs8vCqpxcAvydnV2SSv" +
		"2cy03cPcpDnA2SMgu0nUxslWoBHdYzUg__"
	adminSig = "eJyrVgrxCdYrSy1SslJQMtIzUNJRAItkpqTmlWSmZUIkElNyM-Myi0uKEkvyi2BKilOyEw" +
		"sKMlOACgxNDKAAKpdaUZBZlAqUsTAzgQuWZOaChAzN0RQXZ6aDLKn0cUzVLjcPD00NLS1MCrPM0A*JML" +
		"coNTLMD3HP1M60jCowLDUOKMiLNDOwVaoFAD4PNPI_"
)

var vectorTime = time.Unix(1700000000, 0)

func TestSignMatchesTheVendorsLibrary(t *testing.T) {
	for _, v := range []struct {
		identifier, mac string
		lifetime        time.Duration
	}{
		{"xiaojun", xiaojunMAC, halfYear},
		{"administrator", adminMAC, 24 * time.Hour},
	} {
		sig, err := imclient.Sign(vectorApp, v.identifier, imclient.NewSecret(vectorKey),
			vectorTime, v.lifetime)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]any{
			"TLS.ver": "2.0", "TLS.identifier": v.identifier, "TLS.sdkappid": float64(vectorApp),
			"TLS.expire": v.lifetime.Seconds(), "TLS.time": float64(vectorTime.Unix()),
			"TLS.sig": v.mac,
		}
		if got := unpacked(t, sig); !maps.Equal(got, want) {
			t.Errorf("%s: signed\n%v, want\n%v", v.identifier, got, want)
		}
		if sig != strings.Trim(sig, "+/=") || strings.ContainsAny(sig, "+/=%&? ") {
			t.Errorf("%s: not fit for a query: %s", v.identifier, sig)
		}
	}
}

func TestVerifyAcceptsTheVendorsSignatures(t *testing.T) {
	key := imclient.NewSecret(vectorKey)
	for sig, want := range map[string]imclient.Claims{
		xiaojunSig: {AppID: vectorApp, Identifier: "xiaojun", Issued: vectorTime,
			Lifetime: halfYear},
		adminSig: {AppID: vectorApp, Identifier: "administrator", Issued: vectorTime,
			Lifetime: 24 * time.Hour},
		packed(map[string]any{
			"TLS.ver": "2.0", "TLS.identifier": "xiaojun", "TLS.sdkappid": vectorApp,
			"TLS.expire": 15552000,
			"TLS.time":   1700000000, "TLS.userbuf": "YWJj", "TLS.sig": userbufMAC,
		}): {AppID: vectorApp, Identifier: "xiaojun", Issued: vectorTime, Lifetime: halfYear},
	} {
		claims, err := imclient.Verify(sig, key, vectorTime.Add(want.Lifetime))
		if err != nil || claims != want {
			t.Errorf("%+v, %v; want %+v", claims, err, want)
		}
		claims, err = imclient.Verify(sig, key, vectorTime.Add(want.Lifetime+time.Second))
		if !errors.Is(err, imclient.ErrSigExpired) || claims != want {
			t.Errorf("after its lifetime: %+v, %v", claims, err)
		}
		claims, err = imclient.Verify(sig, imclient.NewSecret(vectorKey+"0"), vectorTime)
		if !errors.Is(err, imclient.ErrSigForged) || claims != want {
			t.Errorf("with another key: %+v, %v", claims, err)
		}
		if _, err = imclient.Verify(sig, imclient.Secret{}, vectorTime); !errors.Is(err,
			imclient.ErrSigForged) {
			t.Errorf("without a key: %v", err)
		}
	}
}

// Each signed field is covered by the signature.
func TestVerifyRefusesAChangedField(t *testing.T) {
	for field, value := range map[string]any{
		"TLS.identifier": "root", "TLS.sdkappid": vectorApp + 1, "TLS.expire": 15552001,
		"TLS.time":    1700000001,
		"TLS.userbuf": "YWJj", "TLS.sig": adminMAC,
	} {
		fields := unpacked(t, xiaojunSig)
		fields[field] = value
		if _, err := imclient.Verify(packed(fields), imclient.NewSecret(vectorKey),
			vectorTime); !errors.Is(err, imclient.ErrSigForged) {
			t.Errorf("%s changed: %v", field, err)
		}
	}
}

func TestVerifyRefusesMalformedSignatures(t *testing.T) {
	without := func(field string) string {
		fields := unpacked(t, xiaojunSig)
		delete(fields, field)
		return packed(fields)
	}
	with := func(field string, value any) string {
		fields := unpacked(t, xiaojunSig)
		fields[field] = value
		return packed(fields)
	}
	raw, _ := base64.StdEncoding.DecodeString(strings.NewReplacer("*", "+", "-", "/", "_",
		"=").Replace(xiaojunSig))
	trailed := strings.NewReplacer("+", "*", "/", "-", "=",
		"_").Replace(base64.StdEncoding.EncodeToString(append(raw, make([]byte, 9000)...)))
	for name, sig := range map[string]string{
		"empty": "", "short": "e", "text": "not a signature",
		"standard alphabet": strings.ReplaceAll(adminSig, "-", "/"),
		"cut":               xiaojunSig[:len(xiaojunSig)-8], "escaped": url.QueryEscape(adminSig),
		"line break": xiaojunSig[:8] + "\n" + xiaojunSig[8:],
		"long":       trailed, "not JSON": packed("x"), "bomb": packed(strings.Repeat("x", 1<<24)),
		"no version": without("TLS.ver"), "no identifier": without("TLS.identifier"),
		"no lifetime": without("TLS.expire"),
		"no app":      without("TLS.sdkappid"), "version 1.0": with("TLS.ver", "1.0"),
		"app a string": with("TLS.sdkappid", "1"),
		"far future":   with("TLS.time", 1<<50), "endless": with("TLS.expire", 1<<60),
		"line break in a field": with("TLS.identifier", "a\nTLS.sdkappid:1"),
	} {
		claims, err := imclient.Verify(sig, imclient.NewSecret(vectorKey), vectorTime)
		if !errors.Is(err, imclient.ErrSigMalformed) || claims != (imclient.Claims{}) {
			t.Errorf("%s: %+v, %v", name, claims, err)
		}
	}
}

func TestVerifyDoesNotUnpackZipBombs(t *testing.T) {
	bomb := packed(strings.Repeat("x", 5<<20))
	if len(bomb) > 8<<10 {
		t.Fatalf("the bomb is too large: %d", len(bomb))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := imclient.Verify(bomb, imclient.NewSecret(vectorKey), vectorTime)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 ||
		!errors.Is(err, imclient.ErrSigMalformed) {
		t.Errorf("allocates %d bytes: %v", n, err)
	}
}

func TestSignRefusesInvalidArguments(t *testing.T) {
	key := imclient.NewSecret(canary)
	for name, sign := range map[string]func() (string, error){
		"app": func() (string, error) { return imclient.Sign(0, "a", key, vectorTime, time.Hour) },
		"identifier": func() (string, error) {
			return imclient.Sign(1, "", key, vectorTime, time.Hour)
		},
		"line break": func() (string, error) {
			return imclient.Sign(1, "a\nb", key, vectorTime, time.Hour)
		},
		"key": func() (string, error) {
			return imclient.Sign(1, "a", imclient.Secret{}, vectorTime, time.Hour)
		},
		"lifetime": func() (string, error) {
			return imclient.Sign(1, "a", key, vectorTime, time.Second-1)
		},
		"time": func() (string, error) {
			return imclient.Sign(1, "a", key, time.Time{}, time.Hour)
		},
	} {
		if sig, err := sign(); err == nil || sig != "" || leaks(err.Error()) {
			t.Errorf("%s: %q, %v", name, sig, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(xiaojunSig)
	f.Add(adminSig[:40])
	f.Fuzz(func(t *testing.T, sig string) {
		claims, err := imclient.Verify(sig, imclient.NewSecret(vectorKey), vectorTime)
		if err == nil && claims.Identifier == "" {
			t.Error("accepted without an identifier")
		}
	})
}

// unpacked reverses the vendor's recipe independently of the code under test.
func unpacked(t *testing.T, sig string) map[string]any {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(strings.NewReplacer("*", "+", "-", "/", "_",
		"=").Replace(sig))
	if err != nil {
		t.Fatal(err)
	}
	z, err := zlib.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	return fields
}

// packed makes an unsigned UserSig of any JSON.
func packed(value any) string {
	text, _ := json.Marshal(value)
	var buf bytes.Buffer
	z := zlib.NewWriter(&buf)
	_, _ = z.Write(text)
	_ = z.Close()
	return strings.NewReplacer("+", "*", "/", "-", "=",
		"_").Replace(base64.StdEncoding.EncodeToString(buf.Bytes()))
}
