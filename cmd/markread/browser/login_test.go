package browser_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp/kb"

	"markread/cmd/markread/app"
	"markread/imclient"
)

const token = "a-token-of-the-tests"

func withToken(o *app.DevOptions) { o.AdminToken = imclient.NewSecret(token) }

// logIn logs in with the form that the tab shows.
func logIn(b *tab) {
	b.Helper()
	b.allow("status of 401") // of the form itself
	typeToken(b, token)
	b.waitText("nav [aria-current=page]", `Overview|概览`)
}

// typeToken types a token into the form, once the form has the focus.
func typeToken(b *tab, text string) {
	b.Helper()
	waitForm(b)
	b.press(text + kb.Enter)
}

func waitForm(b *tab) {
	b.Helper()
	b.waitTrue(`() => document.activeElement === find("#token")`)
}

// The form refuses a wrong token, slowly, and accepts the right one; the cookie lasts until its
// expiry or until the user logs out.
func TestLogin(t *testing.T) {
	t.Parallel()
	s := startStack(t, withToken)
	for name, address := range map[string]string{"worker": s.page(), "group": s.console()} {
		b := newTab(t)
		b.allow("status of 401")
		b.open(address)
		began := time.Now()
		typeToken(b, "wrong")
		b.waitText("[role=alert]", `^The token is wrong`)
		if d := time.Since(began); d < time.Second {
			t.Errorf("%s: a wrong token is answered after %s", name, d)
		}
		if list := cookies(b); len(list) > 0 {
			t.Errorf("%s: a wrong token sets cookies", name)
		}
		logIn(b)
		b.waitText("h1", `:`)
		list := cookies(b)
		if len(list) != 1 {
			t.Fatalf("%s: %d cookies", name, len(list))
		}
		c, left := list[0], time.Until(time.Unix(int64(list[0].Expires), 0))
		if !c.HTTPOnly || c.SameSite != network.CookieSameSiteStrict || c.Secure ||
			left < 11*time.Hour || left > 12*time.Hour || strings.Contains(c.Value, token) {
			t.Errorf("%s: the cookie is %+v", name, c)
		}
		b.reload()
		b.waitText("h1", `:`)

		expiry := fmt.Sprint(time.Now().Add(-time.Second).Unix())
		call(b, network.SetCookie, network.SetCookieParams{Name: c.Name, URL: address,
			Value: expiry + "." + signed(expiry), HTTPOnly: new(true)})
		b.waitText("label", `^Admin token$`) // the open page becomes the form
		b.waitGone("[role=alert]")
		logIn(b)
		b.click("button >> Log out")
		b.waitText("label", `^Admin token$`)
		if list := cookies(b); len(list) > 0 {
			t.Errorf("%s: a cookie remains after the logout", name)
		}
		b.reload()
		b.waitText("label", `^Admin token$`)
	}
}

// signed returns the part of a login's cookie after its expiry.
func signed(expiry string) string {
	key := sha256.Sum256([]byte("markread login" + token))
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(expiry))
	return hex.EncodeToString(mac.Sum(nil))
}

func cookies(b *tab) []*network.Cookie {
	b.Helper()
	return call(b, network.GetCookies, network.GetCookiesParams{}).Cookies
}

// Where others could read the token there is no form, and the page says why.
func TestLoginOverPlainHTTP(t *testing.T) {
	t.Parallel()
	s, open := startStack(t, withToken), startStack(t, nil)
	_, port, _ := strings.Cut(s.addr.Console, ":")
	b := newTab(t)
	b.allow("status of 40[13]")
	b.open("http://markread.test:" + port + "/")
	b.waitText("[role=alert]", `read the token here.*https.*127\.0\.0\.1`)
	if n := b.count("form, input"); n > 0 {
		t.Error("there is a form")
	}
	b.click("a >> 中文")
	b.waitText("[role=alert]", `https`)
	if got := b.text("[role=alert]"); strings.Contains(got, "Anybody") {
		t.Errorf("in Chinese: %s", got)
	}
	// without a token only this machine sees more, and says so to others
	_, port, _ = strings.Cut(open.addr.Admin, ":")
	b.open("http://markread.test:" + port + "/")
	b.waitText("body", `MARKREAD_ADMIN_TOKEN`)
	if n := b.count("form, nav"); n > 0 {
		t.Error("the page is served to others without a token")
	}
}

// Everything works below a path of a proxy that terminates TLS: login, each page, each action, the
// export, the language, logout. No request leaves the path.
func TestSubPath(t *testing.T) {
	t.Parallel()
	s := startStack(t, withSettings)
	s.emitInvalid("alice", "bob")
	s.emit(20, "alice", "peer")
	for name, target := range map[string]string{"worker": s.addr.Admin, "group": s.addr.Console} {
		// before the tab, which ends first
		page := proxiedTLS(t, target, "/x/y", http.Header{"X-Forwarded-Proto": {"https"}})
		b := newTab(t)
		call(b, security.SetIgnoreCertificateErrors,
			security.SetIgnoreCertificateErrorsParams{Ignore: true})
		b.open(page)
		b.allow("status of 401")
		typeToken(b, "wrong")
		b.waitText("[role=alert]", `^The token is wrong`)
		logIn(b)
		if list := cookies(b); len(list) != 1 || !list[0].Secure ||
			!strings.HasPrefix(list[0].Path, "/x/y") {
			t.Errorf("%s: %d cookies, or not for https and the path only", name, len(list))
		}
		b.waitText("h1", `:`)
		b.waitRequests("GET /x/y/api/overview", 2)
		pauseAndResume(b)

		b.click("nav a >> Conversation")
		b.write("#c-report", "alice")
		b.write("#c-peer", "peer7")
		b.press(kb.Enter)
		b.waitText(".facts", `mark-read · \d`)
		b.waitText("code", `dead-letters ls .*--report[= ]alice --peer[= ]peer7`)
		b.click("nav a >> Settings")
		b.waitText("main tbody", `--rate\s+200`)
		b.click("#language")
		b.waitText("nav [aria-current=page]", `设置`)
		if got := eval[string](b, `() => location.pathname + location.search + location.hash`); got !=
			"/x/y/?lang=zh#settings" {
			t.Errorf("%s: the language switch leads to %s", name, got)
		}
		b.click("#language")
		b.waitText("nav [aria-current=page]", `Settings`)
		if name == "group" {
			useDeadLetters(b)
		}
		for _, a := range b.texts("footer.bottom a") {
			b.waitTrue(`(text) => fetch(find("footer.bottom a >> " + text).href).then((r) => r.ok)`, a)
		}
		b.click("button >> Log out")
		b.waitText("label", `^Admin token$`)
		for request := range b.requests() {
			if !strings.Contains(request, " /x/y/") {
				t.Errorf("%s: %s leaves the path", name, request)
			}
		}
	}
}

// pauseAndResume pauses and resumes the first worker with the mouse.
func pauseAndResume(b *tab) {
	b.Helper()
	b.click("td button >> Pause")
	b.write("dialog input", "a reason")
	b.click("dialog button >> Pause")
	b.waitGone("dialog")
	b.waitText("h1", `^Calls are held: paused`)
	b.click("td button >> Resume")
	b.waitText("dialog .quote", `a reason`)
	b.click("dialog button >> Resume")
	b.waitGone("dialog")
	b.waitGone("h1 >> Calls are held")
}

// useDeadLetters uses all that the page of dead letters can do, except a replay's start.
func useDeadLetters(b *tab) {
	b.Helper()
	b.click("nav a >> Dead letters")
	b.waitText("[role=status]", `^Dead letters: 1,`)
	name, content := b.download(func() { b.click("button[value=csv]") })
	if !strings.HasSuffix(name, ".csv") || !strings.Contains(string(content), "alice") {
		b.Errorf("the export %q is %.300q", name, content)
	}
	b.click("main button.main >> Plan")
	b.waitText("main", `Nothing to replay`)
	b.choose("#f-class", "rejected")
	b.click("button >> Apply")
	b.waitGone("th a")
	b.click("button >> Clear")
	b.click("th a")
	b.waitText("h1", `^Dead letter \d+:\d+$`)
	b.click("button >> Reveal accounts")
	b.waitText("main pre", `"MsgReadTime":"yesterday"`)
	if got := eval[string](b, `() => location.hash`); !strings.HasPrefix(got, "#dead-letters/") {
		b.Errorf("a dead letter has the address %q", got)
	}
	b.click("main a >> ←")
	b.waitText("h1", `^Dead letters$`)
}
