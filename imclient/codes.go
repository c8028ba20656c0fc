package imclient

// Class says how a failed call may be handled.
type Class int

// The classes of failures.
const (
	// Transient: the same call may succeed later.
	Transient Class = iota
	// Throttled: too many calls. Retry later, at a lower rate.
	Throttled
	// Held: every other call would fail the same way until somebody fixes the cause. Make no calls
	// until then.
	Held
	// Rejected: the server does not accept this call. Never retry it.
	Rejected
)

// String returns the class as in metrics and dead letters: "transient", "throttled", "held" or
// "rejected".
func (c Class) String() string {
	switch c {
	case Throttled:
		return "throttled"
	case Held:
		return "held"
	case Rejected:
		return "rejected"
	default:
		return "transient"
	}
}

// Code describes an ErrorCode.
type Code struct {
	Code    int
	Class   Class
	Meaning string
	Remedy  string // what an operator should do
	Source  string // the vendor's page, without "https://"
	// NewSignatureHelps: a new signature may help. The one that was used is dropped.
	NewSignatureHelps bool
}

// LookUp returns the table's row for an ErrorCode other than 0. For an unknown code it returns
// false and a row that says so; its class is Transient.
func LookUp(code int) (Code, bool) {
	if row, ok := byCode[code]; ok {
		return row, true
	}
	return Code{
		Code: code, Class: Transient,
		Meaning: "an error code that markread does not know",
		Remedy:  ifRetriesFail + "look it up at https://" + listNew,
		Source:  listNew,
	}, false
}

// Codes returns the whole table, ordered by code.
func Codes() []Code { return append([]Code(nil), table...) }

var byCode = func() map[int]Code {
	rows := make(map[int]Code, len(table))
	for _, row := range table {
		rows[row.Code] = row
	}
	return rows
}()

// codeTooManyBadSignatures makes the server refuse good signatures for a minute, too. The signature
// is dropped, but an immediate retry would only prolong the refusal.
const codeTooManyBadSignatures = 70050

// codeSignatureRevoked: the signature was valid until then, and so was its date.
const codeSignatureRevoked = 70052

// The vendor's lists of error codes. The newer one omits some codes that servers may still return.
const (
	listNew = "trtc.io/document/34348"
	listOld = "tencentcloud.com/document/product/1047/34348"
	listMsg = "cloud.tencent.com/document/product/679/131708"
	pageAPI = "cloud.tencent.com/document/product/269/50349"
	pageRAM = "tencentcloud.com/document/product/1047/35478"
	pageKik = "cloud.tencent.com/document/product/269/3853"
)

// Beginnings of remedies that say what a worker does by itself. RemedyWithoutRetry removes them.
const (
	ifRetriesFail    = "nothing for the first 5 minutes: it is retried. If it continues, "
	ifStillThrottled = "nothing for the first 5 minutes: calls slow down automatically. If it " +
		"continues, "
	ifStillRefused = "nothing for the first 5 minutes: it is retried with a new signature. If it " +
		"continues, "
)

// Remedies that several codes share.
const (
	retryThenSupport = ifRetriesFail + "ask the vendor's support"
	lowerRate        = ifStillThrottled +
		"find what else calls the API for this app, and lower --rate by its share"
	checkKey = "check that the key (MARKREAD_IM_KEY) is the one that the vendor's console " +
		"shows for the app of --im-app-id"
	checkAdmin = "check that --im-admin is an App administrator's account in the vendor's console"
	checkApp   = "check --im-app-id"
	checkHost  = "check --im-url: it must be the host of the data centre that the app of " +
		"--im-app-id lives in"
	checkRequest = "check --im-url, and that no proxy changes the requests; if that is correct, " +
		"report it as an error in markread"
	checkPlan = "check in the vendor's console that the app's plan is paid, not expired, and " +
		"includes this feature"
	checkAccount = "check that the producer writes account ids that exist, and import the " +
		"account if it should exist"
	checkEvent = "check what the producer wrote; an edited event can be emitted again"
	askSupport = "ask the vendor's support"
)

const accountCheckFailed = "the account check failed: a failure of the service, or a wrong " +
	"account or signature"

// table is ordered by code. The classes are part of markread's contract; a test compares them.
var table = []Code{
	{20002, Held, "the UserSig or the login ticket has expired",
		checkKey + ", and that the clock is correct", listMsg, true},
	{20003, Rejected, "an account id is invalid or does not exist", checkAccount, listMsg, false},
	{20004, Transient, "network failure within the service", retryThenSupport, listMsg, false},
	{20005, Transient, "internal error of the service", retryThenSupport, listMsg, false},

	{60002, Held, "the server could not read the HTTP request", checkRequest, listNew, false},
	{60003, Rejected, "the request is not valid JSON", checkEvent, listNew, false},
	{60004, Transient, accountCheckFailed, ifStillRefused + checkKey + ", and " + checkAdmin,
		listNew, true},
	{60005, Transient, accountCheckFailed, ifStillRefused + checkKey + ", and " + checkAdmin,
		listNew, true},
	{60006, Held, "the app id is not valid", checkApp, listOld, false},
	{60007, Throttled, "too many calls of this API a second", lowerRate, listNew, false},
	{60008, Transient, "the request timed out within the service", retryThenSupport, listNew,
		false},
	{60009, Held, "there is no such API at this address", checkRequest, listNew, false},
	{60010, Held, "the caller is not an App administrator", checkAdmin, listNew, false},
	{60011, Throttled, "too many calls of this app a second", lowerRate, listOld, false},
	{60012, Held, "the request has no app id", checkApp + "; " + checkRequest, listNew, false},
	{60013, Transient, "the service could not read its own response", retryThenSupport, listNew,
		false},
	{60014, Transient, "the account check timed out within the service",
		retryThenSupport, listNew, false},
	{60015, Rejected, "an account id in the request is not a string", checkEvent, listNew, false},
	{60016, Held, "the app is disabled", checkPlan + "; else " + askSupport, listNew, false},
	{60017, Held, "the request is disabled for this app", askSupport, listNew, false},
	{60018, Throttled, "too many calls, try later", lowerRate, listNew, false},
	{60019, Throttled, "too many calls, try later", lowerRate, listOld, false},
	{60020, Held, "the service is not available to this app: " +
		"no plan, expired, unpaid, or the feature is not enabled",
		checkPlan + ". A purchase takes about 5 minutes to take effect", listNew, false},
	{60021, Held, "the caller's IP address is not allowed",
		"call from an address that the app allows, or " + askSupport, listNew, false},
	{60025, Held, "app id, administrator, UserSig or content type in the URL is wrong",
		checkApp + ", --im-admin, and " + checkKey, listNew, true},
	{60026, Held, "the host is not the one of the app's data centre", checkHost, listNew, false},
	{60027, Held, "the app is of another product than this API",
		checkApp + ": it must be a Chat app", listNew, false},
	{60028, Held, "the trial edition's calls for 24 hours are used up",
		"buy a plan in the vendor's console, or wait until tomorrow", listNew, false},

	{70001, Held, "the UserSig has expired",
		"check that the clock is correct; " + checkKey, listNew, true},
	{70002, Held, "the UserSig is empty", checkKey, listOld, true},
	{70003, Held, "the UserSig is not valid", checkKey, listNew, true},
	{70005, Held, "the UserSig is not valid", checkKey, listNew, true},
	{70009, Held, "the UserSig was made with another app's key", checkKey, listNew, true},
	{70013, Held, "the administrator in the URL is not the one in the UserSig",
		checkAdmin + "; and that no proxy changes the requests", listNew, false},
	{70014, Held, "the app id in the URL is not the one in the UserSig",
		checkApp + ", and that no proxy changes the requests", listNew, false},
	{70016, Held, "the service has no public key for this app",
		checkApp + "; " + checkHost, listNew, true},
	{70020, Held, "there is no such app", checkApp + "; " + checkHost, listNew, false},
	{codeTooManyBadSignatures, Held,
		"the UserSig failed too often: verification is suspended for a minute",
		checkKey + ". Then wait a minute", listNew, true},
	{70051, Held, "the administrator's account is blocked",
		askSupport + ", or set another --im-admin", listNew, false},
	{codeSignatureRevoked, Held, "the UserSig was revoked (the account was kicked)",
		ifStillRefused + "find out who kicks the account of --im-admin, and set one that nobody " +
			"else uses",
		listOld, true},
	{70107, Rejected, "the account was not imported", checkAccount, listNew, false},
	{70169, Transient, "the service timed out internally", retryThenSupport, listNew, false},
	{70202, Transient, "the service timed out internally", retryThenSupport, listOld, false},
	{70402, Rejected, "a parameter is not valid", checkEvent, listNew, false},
	{70403, Held, "the caller is not an App administrator", checkAdmin, pageKik, false},
	{70500, Transient, "internal error of the service", retryThenSupport, listNew, false},

	{72000, Held, "the plan's daily active users are used up", checkPlan, listNew, false},
	{72001, Held, "the feature is not enabled for this app", checkPlan, listNew, false},
	{72002, Held, "the plan's monthly active users are used up", checkPlan, listNew, false},
	{80005, Held, "the service is deactivated for this app", checkPlan, listNew, false},

	{90001, Rejected, "the request is not valid JSON", checkEvent, pageAPI, false},
	{90003, Rejected, "To_Account (here: Peer_Account) is missing or does not exist",
		checkAccount, pageAPI, false},
	{90008, Rejected, "From_Account (here: Report_Account) is missing or does not exist",
		checkAccount, pageAPI, false},
	{90009, Held, "the caller is not an App administrator", checkAdmin, pageRAM, false},
	{90012, Rejected, "To_Account is not registered or does not exist",
		checkAccount, listMsg, false},
	{90048, Rejected, "the account does not exist", checkAccount, listMsg, false},
	{90992, Transient, "internal error of the service, or the app's callback server failed",
		retryThenSupport + ". If every call fails this way, check the app's callback server",
		listMsg, false},
	{90994, Transient, "internal error of the service", retryThenSupport, listMsg, false},
	{90995, Transient, "internal error of the service", retryThenSupport, listMsg, false},
	{91000, Transient, "internal error of the service", retryThenSupport, pageRAM, false},
	{93000, Rejected, "the request is longer than 12 KB", checkEvent, listMsg, false},
}
