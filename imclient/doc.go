// Package imclient calls the REST API of Tencent Cloud Chat (Tencent IM), mainly
// v4/openim/admin_set_msg_read.
//
// For each call it signs, sends, reads the response and classifies the result: the same call may be
// retried, the app's quota is used up, every other call would fail the same way, or this call
// itself is wrong. The classes come from one table, Codes, which also has the meaning of each error
// code and its remedy.
//
// It does not retry, wait, limit the rate, log or count. The caller decides when to retry, because
// a call that waits for its retry must neither occupy a slot nor stop merging with newer events of
// its conversation. Backoff is only the policy: how long to wait after how many failures.
//
// # Promises
//
//   - A Post makes at most one HTTP request arrive at the server, and none after it has returned.
//     When it fails without a complete response, its connection is closed before it returns, and
//     unsent data is discarded (SO_LINGER 0).
//   - A Post ends within Options.Timeout of its start, connecting included, whatever the server
//     does. It reads at most 64 KiB of a response's body, and at most 64 KiB of its header.
//   - A response that is a JSON object with an integer ErrorCode decides the result, whatever the
//     HTTP status and even if the context ended meanwhile.
//   - No error, message or response contains the key, a signature, or a password of a proxy's
//     address, nor 12 bytes of one: text from outside is redacted.
//
// # Non-obvious
//
//   - isSuccess recognizes the usual response to a success without decoding JSON. Each body that it
//     accepts is a success for parseResult, too, which decides about every other response.
//   - MsgReadTime is always sent, as a decimal string, as the vendor documents it. Without it the
//     server uses the time of the call, and marks messages as read that arrived while the event
//     waited.
//   - The signature travels in the URL. Therefore the client uses RoundTrip and not http.Client,
//     which follows redirects (and would send the signature to another host) and whose *url.Error
//     prints the URL.
//   - net/http repeats a request by itself if a reused connection turns out to be dead before a
//     single byte was written. Nothing has arrived then, so the first promise holds. It repeats a
//     POST in no other case.
//   - A lease (WithLease) is checked when net/http has the whole request in its buffer. If the body
//     checked it, net/http would have sent the header already.
//   - net/http continues to dial after a call has timed out, and keeps the connection for a later
//     call. It does not send the timed-out request on it.
//   - net/http writes data that a server sends on an idle connection to the standard logger. A
//     program that uses this package should pass that logger's output through Client.Mask.
//   - The server's Date is trusted only in a response with an ErrorCode: a gateway's clock says
//     nothing about the server's. Signatures are dated by it, so that a wrong clock here does not
//     make them expired or not yet valid there.
package imclient
