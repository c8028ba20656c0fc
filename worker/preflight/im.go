package preflight

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"markread/imclient"
	"markread/worker/format"
)

// Call is one call of the API, and its outcome.
type Call struct {
	URL            string
	proxy          string // host:port; "": none
	admin          string
	Sent, Received time.Time
	Answer         imclient.Response
	Err            error
}

// CallFindings returns whether the IM server is reachable, whether it accepts the key, and whether
// the clocks agree.
func CallFindings(c Call) Findings {
	server := c.URL
	if c.proxy != "" {
		server += " through the proxy " + c.proxy
	}
	const silent = "the IM server does not respond"
	var failure *imclient.Error
	var all Findings
	switch {
	case c.Err != nil && !errors.As(c.Err, &failure):
		return wrongRestNotChecked("IM server", server+": "+c.Err.Error(),
			"check --im-url, and the network to the server", silent, "IM account", "clock")
	case failure != nil && failure.ErrorCode == 0 && !failure.Sent():
		return wrongRestNotChecked("IM account", failure.Meaning()+causeOf(failure),
			failure.Remedy(), "no call can be signed", "IM server", "clock")
	case failure != nil && failure.ErrorCode == 0 && failure.Class != imclient.Throttled:
		found, do := noResponse(c, failure)
		return wrongRestNotChecked("IM server", server+": "+found, do, silent, "IM account",
			"clock")
	}
	all.Add(Good("IM server", "",
		fmt.Sprintf("%s responds within %d ms", server, c.Received.Sub(c.Sent).Milliseconds())))
	all.Add(errorCodeFinding(c, failure))
	return append(all, clockFindings(c)...)
}

// wrongRestNotChecked returns that one check is wrong, and why the rest are not checked.
func wrongRestNotChecked(check, found, do, why string, rest ...string) Findings {
	all := Findings{Wrong(check, "", found, do)}
	for _, check := range rest {
		all.Add(NotChecked(check, "", why, ""))
	}
	return all
}

// accountCodes are the ErrorCodes about the account of --im-admin, whose messages are counted.
var accountCodes = []int{20003, 70107, 90003, 90012, 90048}

// errorCodeFinding returns the meaning of an API response. failure is nil if its ErrorCode is 0.
func errorCodeFinding(c Call, failure *imclient.Error) Finding {
	const check = "IM account"
	if failure == nil {
		return Good(check, "", "the key and --im-admin "+c.admin+" are correct (a mark-read call "+
			"is not tried)")
	}
	row, _ := imclient.LookUp(failure.ErrorCode)
	said := failure.Meaning()
	if failure.ErrorCode != 0 {
		said = fmt.Sprintf("ErrorCode %d: %s", failure.ErrorCode, said)
	}
	if failure.Message != "" {
		said += fmt.Sprintf("; the server says %q", failure.Message)
	}
	switch do := failure.RemedyWithoutRetry(); {
	case strings.Contains(do, "data centre"):
		return Wrong(check, "", said, do+": "+strings.Join(imclient.Regions(), ", "))
	case row.NewSignatureHelps || failure.Class == imclient.Held:
		return Wrong(check, "", said, do)
	case slices.Contains(accountCodes, failure.ErrorCode): // so the key was accepted
		return Warning(check, "", said,
			"check that --im-admin is an account of this app; the key is correct")
	case failure.Class == imclient.Rejected:
		return Wrong(check, "", said, "the request was changed in transit: check proxies and "+
			"gateways in between, and --im-url")
	default:
		return Warning(check, "", said, checkAgain(do))
	}
}

// checkAgain returns the remedy for a failure that may be transient.
func checkAgain(lasting string) string { return "check again in a minute; if it stays, " + lasting }

// noResponse returns why there was no response from the API, and the remedy.
func noResponse(c Call, failure *imclient.Error) (found, do string) {
	var unnamed *net.DNSError
	var name x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	found = failure.Meaning() + causeOf(failure)
	if failure.Message != "" {
		found += fmt.Sprintf("; it says %q", failure.Message)
	}
	switch err := failure.Err; {
	case c.proxy != "" && (failure.Status == http.StatusProxyAuthRequired || err != nil &&
		strings.Contains(err.Error(), http.StatusText(http.StatusProxyAuthRequired))):
		return found, "give the proxy its user and password in the variable that names it " +
			"(HTTPS_PROXY=http://USER:PASSWORD@" + c.proxy +
			"), and check whether it allows calls to --im-url"
	case errors.As(err, &unnamed) && c.proxy != "":
		return fmt.Sprintf("the name %s can't be resolved here", unnamed.Name),
			"check the proxy that the environment names (HTTPS_PROXY, HTTP_PROXY), and this " +
				"machine's name resolution (DNS)"
	case errors.As(err, &unnamed):
		return fmt.Sprintf("the name %s can't be resolved here", unnamed.Name),
			"check --im-url, and this machine's name resolution (DNS)"
	case errors.As(err, &name):
		return found, "check that --im-url names the host as its certificate does, and that " +
			"nothing in between responds in its place"
	case errors.As(err, &authority):
		return found, "update this machine's root certificates (a container may have none; " +
			"SSL_CERT_FILE names another file), and check whether a proxy in between intercepts " +
			"TLS (--im-url)"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return found, "check this machine's clock; if it is correct, the certificate of the " +
			"server of --im-url must be renewed"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "this port does not speak TLS",
			"check the port and the https:// in --im-url, and the proxy if there is one"
	}
	do = failure.RemedyWithoutRetry()
	if !strings.Contains(do, "--im-url") {
		do += " (--im-url " + hostOf(c.URL) + ")"
	}
	if failure.RemedyWithoutRetry() != failure.Remedy() {
		do = checkAgain(do)
	}
	return found, do
}

func causeOf(failure *imclient.Error) string {
	if failure.Err == nil {
		return ""
	}
	return ": " + failure.Err.Error()
}

func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return base
	}
	return u.Host
}

const (
	// smallSkew is far above the difference of two synchronized clocks, a fraction of a second.
	smallSkew = 30 * time.Second
	// largeSkew is as far as an event's time may be ahead of the later of both clocks. If this
	// machine's clock is further ahead, impossible read times are accepted; if it is further
	// behind, times in logs and dead letters, and certificate checks, are wrong.
	largeSkew = 5 * time.Minute
	// soonExpired is less than the month or so before expiry in which vendors renew certificates.
	soonExpired = 14 * 24 * time.Hour
)

// clockFindings compares this machine's clock with the server's, and with the expiry of its
// certificate.
func clockFindings(c Call) (all Findings) {
	const do = "set this machine's clock, and synchronize it (NTP): it is used to check event " +
		"times, and to date signatures until the server's time is known"
	skew, text := skewOf(c), "the IM server's and this machine's agree"
	switch {
	case skew > 0:
		text = "this machine's clock is " + format.Age(skew) + " ahead of the IM server's"
	case skew < 0:
		text = "this machine's clock is " + format.Age(-skew) + " behind the IM server's"
	}
	switch {
	case c.Answer.Date.IsZero():
		all.Add(NotChecked("clock", "", "the IM server does not send its time", ""))
	case skew.Abs() > largeSkew:
		all.Add(Wrong("clock", "", text, do))
	case skew.Abs() > smallSkew:
		all.Add(Warning("clock", "", text, do))
	default:
		all.Add(Good("clock", "", text))
	}
	if left := c.Answer.CertExpires.Sub(c.Received); !c.Answer.CertExpires.IsZero() &&
		left < soonExpired {
		all.Add(Warning("certificate", hostOf(c.URL), "it expires in "+format.Age(left),
			"have the operator of that server, or of the proxy before it, renew it in time "+
				"(--im-url)"))
	}
	return all
}

// skewOf returns how far this machine's clock is ahead, at least: the server's time has whole
// seconds, and was read at some time between request and response.
func skewOf(c Call) time.Duration {
	earliest, latest := c.Answer.Date, c.Answer.Date.Add(time.Second)
	switch {
	case c.Sent.Round(0).After(latest):
		return c.Sent.Round(0).Sub(latest)
	case c.Received.Round(0).Before(earliest):
		return c.Received.Round(0).Sub(earliest)
	default:
		return 0
	}
}
