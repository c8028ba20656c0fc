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

// Call is one call of the API, and what became of it.
type Call struct {
	URL        string
	proxy      string // host:port; "": none
	admin      string
	Sent, Came time.Time
	Answer     imclient.Response
	Err        error
}

// JudgeCall judges the way to the IM server, whether it takes the key, and the clocks.
func JudgeCall(c Call) Findings {
	server := c.URL
	if c.proxy != "" {
		server += " through the proxy " + c.proxy
	}
	const silent = "the IM server does not answer"
	var failure *imclient.Error
	var all Findings
	switch {
	case c.Err != nil && !errors.As(c.Err, &failure):
		return onlyWrong("IM server", server+": "+c.Err.Error(),
			"check --im-url, and the way to the server", silent, "IM account", "clock")
	case failure != nil && failure.ErrorCode == 0 && !failure.Sent():
		return onlyWrong("IM account", failure.Meaning()+causeOf(failure), failure.Remedy(),
			"no call can be signed", "IM server", "clock")
	case failure != nil && failure.ErrorCode == 0 && failure.Class != imclient.Throttled:
		found, do := noAnswer(c, failure)
		return onlyWrong("IM server", server+": "+found, do, silent, "IM account", "clock")
	}
	all.Add(Good("IM server", "",
		fmt.Sprintf("%s answers within %d ms", server, c.Came.Sub(c.Sent).Milliseconds())))
	all.Add(judgeCode(c, failure))
	return append(all, judgeClocks(c)...)
}

// onlyWrong is what is wrong, and why the rest is not checked.
func onlyWrong(check, found, do, why string, rest ...string) Findings {
	all := Findings{Wrong(check, "", found, do)}
	for _, check := range rest {
		all.Add(NotChecked(check, "", why, ""))
	}
	return all
}

// ofAccount are the codes about the account whose messages are counted, that of --im-admin.
var ofAccount = []int{20003, 70107, 90003, 90012, 90048}

// judgeCode is about an answer of the API. failure is nil if its ErrorCode is 0.
func judgeCode(c Call, failure *imclient.Error) Finding {
	const check = "IM account"
	if failure == nil {
		return Good(check, "", "the key and --im-admin "+c.admin+" are right (a call itself is "+
			"not tried)")
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
	case slices.Contains(ofAccount, failure.ErrorCode): // so the key was taken
		return Warning(check, "", said,
			"check that --im-admin is an account of this app; the key is right")
	case failure.Class == imclient.Rejected:
		return Wrong(check, "", said, "the request was changed on its way: look at proxies and "+
			"gateways in between, and at --im-url")
	default:
		return Warning(check, "", said, again(do))
	}
}

// again is what to do about what may pass.
func again(lasting string) string { return "check again in a minute; if it stays, " + lasting }

// noAnswer says why no answer of the API came.
func noAnswer(c Call, failure *imclient.Error) (found, do string) {
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
			"), and look whether it lets calls to --im-url through"
	case errors.As(err, &unnamed) && c.proxy != "":
		return fmt.Sprintf("the name %s can't be resolved here", unnamed.Name),
			"check the proxy that the environment names (HTTPS_PROXY, HTTP_PROXY), and this " +
				"machine's name resolution (DNS)"
	case errors.As(err, &unnamed):
		return fmt.Sprintf("the name %s can't be resolved here", unnamed.Name),
			"check --im-url, and this machine's name resolution (DNS)"
	case errors.As(err, &name):
		return found, "check that --im-url names the host as its certificate does, and that " +
			"nothing in between answers in its place"
	case errors.As(err, &authority):
		return found, "update this machine's root certificates (a container may have none; " +
			"SSL_CERT_FILE names another file), and look whether " +
			"something in between opens TLS (--im-url)"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return found, "look at this machine's clock; if it is right, the certificate of the " +
			"server of --im-url has to be renewed"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "this port does not speak TLS",
			"check the port and the https:// in --im-url, and the proxy if there is one"
	}
	do = failure.RemedyWithoutRetry()
	if !strings.Contains(do, "--im-url") {
		do += " (--im-url " + hostOf(c.URL) + ")"
	}
	if failure.RemedyWithoutRetry() != failure.Remedy() {
		do = again(do)
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
	// Between two clocks that somebody keeps right are fractions of a second.
	smallSkew = 30 * time.Second
	// An event's time may be 5 minutes ahead of the later of both clocks: a clock that is further
	// ahead lets times through that nobody can have read at, and one that is further behind is
	// wrong in every log, letter and certificate check.
	largeSkew = 5 * time.Minute
	// Vendors renew certificates a month or so before they expire.
	soonExpired = 14 * 24 * time.Hour
)

// judgeClocks compares this machine's clock with the server's, and with the end of its certificate.
func judgeClocks(c Call) (all Findings) {
	const do = "set the clock of this machine, and keep it right (NTP): times of events are " +
		"judged by it, and signatures are dated by it until the server's is known"
	skew, text := skewOf(c), "the IM server's and this machine's agree"
	switch {
	case skew > 0:
		text = "this machine's clock is " + format.Age(skew) + " ahead of the IM server's"
	case skew < 0:
		text = "this machine's clock is " + format.Age(-skew) + " behind the IM server's"
	}
	switch {
	case c.Answer.Date.IsZero():
		all.Add(NotChecked("clock", "", "the IM server does not say what time it is", ""))
	case skew.Abs() > largeSkew:
		all.Add(Wrong("clock", "", text, do))
	case skew.Abs() > smallSkew:
		all.Add(Warning("clock", "", text, do))
	default:
		all.Add(Good("clock", "", text))
	}
	if left := c.Answer.CertExpires.Sub(c.Came); !c.Answer.CertExpires.IsZero() &&
		left < soonExpired {
		all.Add(Warning("certificate", hostOf(c.URL), "it expires in "+format.Age(left),
			"ask whoever runs that server, or the proxy before it, to renew it in time (--im-url)"))
	}
	return all
}

// skewOf is how far this machine's clock is ahead, as far as the answer can tell: the server's time
// has whole seconds, and was read somewhere between the call and the answer.
func skewOf(c Call) time.Duration {
	earliest, latest := c.Answer.Date, c.Answer.Date.Add(time.Second)
	switch {
	case c.Sent.Round(0).After(latest):
		return c.Sent.Round(0).Sub(latest)
	case c.Came.Round(0).Before(earliest):
		return c.Came.Round(0).Sub(earliest)
	default:
		return 0
	}
}
