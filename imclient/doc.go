// Package imclient calls the REST API of Tencent Cloud Chat (Tencent IM), above all
// v4/openim/admin_set_msg_read.
//
// It makes one call at a time for its caller: it signs, sends, reads the answer, and says what
// became of it as a class: may the call be repeated as it is, is the app's quota used up, would
// every other call fail the same way, or is it this call that is wrong. The classes come from one
// table, Codes, which also has what each error code means and what to do about it.
//
// It does not retry, wait, limit the rate, log or count. When to call again is the caller's
// business: for a call that waits for its retry must neither occupy a slot nor stop merging with
// newer events of its conversation. Backoff is only the policy, how long to wait after how many
// failures.
//
// # Promises
//
//   - A Post makes at most one HTTP request arrive at the server, and none once it has returned.
//     When it fails without a whole answer, its connection is closed before it returns, and what
//     was not sent by then is discarded (SO_LINGER 0).
//   - A Post ends within Options.Timeout of its start, connecting included, whatever the server
//     does, and reads at most 64 KiB of an answer and as much of its header.
//   - An answer that is a JSON object with an integer ErrorCode decides, whatever the HTTP status
//     and even if the context ended meanwhile.
//   - No error, message or answer contains the key, a signature, or a password in a proxy's
//     address, nor 12 bytes of one: text that comes from outside is redacted.
//
// # Non-obvious
//
//   - MsgReadTime is sent as a decimal string, as the vendor documents it, and always: without it
//     the server takes the time of the call, and marks messages as read that came while the event
//     waited.
//   - The signature travels in the URL. Hence RoundTrip and no http.Client: that follows redirects,
//     which would hand the signature to another host, and its *url.Error prints the URL.
//   - net/http repeats a request on its own if a reused connection turns out to be dead before a
//     single byte was written. Nothing arrived then, so the first promise holds. It repeats a POST
//     in no other case.
//   - A lease (WithLease) is asked when net/http has the whole request in its buffer. Were it asked
//     by the body, net/http would send the head first.
//   - net/http continues to dial after a call has timed out, and keeps the connection for a later
//     one. No request is sent on it.
//   - net/http writes what a server sends on an idle connection to the standard logger. A program
//     that uses this package should give that logger an output that goes through Client.Mask.
//   - The server's Date is believed only in an answer with an ErrorCode: a gateway's clock says
//     nothing about the server's. Signatures are dated by it, so that a wrong clock here does not
//     make them expired or not yet valid there.
package imclient
