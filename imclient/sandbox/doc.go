// Package sandbox is a local Tencent IM REST server: an http.Handler that responds to
// v4/openim/admin_set_msg_read and a few related commands as the vendor documents them, keeps the
// state that calls change, and can be made to fail in the ways a real server does. It is for trying
// things out (`markread dev`, `markread sandbox`), for tests, and for measurements.
//
// # Commands
//
//	POST /v4/openim/admin_set_msg_read          moves a conversation's read pointer
//	POST /v4/openim/sendmsg                     a message from From_Account (or the admin), unread
//	POST /v4/openim/get_c2c_unread_msg_num      unread messages of an account from all peers
//	POST /v4/im_open_login_svc/account_import   creates an account
//	POST /v4/im_open_login_svc/kick             revokes an account's existing UserSigs: 70052
//
// For other processes on this machine (peer address loopback, Host a loopback name, no forwarding
// header; else 403):
//
//	GET, PUT /sandbox/faults                    Faults, SetFaults as JSON; invalid: 400 and a line
//	GET      /sandbox/stats                     Stats as JSON
//	GET      /sandbox/arrivals                  Arrivals, one JSON object a line, oldest first
//	GET      /sandbox/read-time?report=&peer=   {"report","peer","read_time" (or null),"unread"}
//	GET      /sandbox/read-times                the same for all with a pointer, sorted, NDJSON
//	GET      /sandbox                           a page with all of this
//
// # Documented behaviour
//
//   - Five query parameters, POST, JSON; HTTP status 200 whatever the ErrorCode.
//   - UserSigs are really verified: 70001, 70003, 70009, 70013, 70014, 70052; 60010 if the caller
//     is not the admin.
//   - 60002, 60009, 60012, 60015, 60025, 70020, 70107, 70398, 70402, 90001, 90003, 90005, 90007,
//     90008, 93000 as in the lists of error codes.
//   - A message whose time is at or before the pointer is read. Times have a resolution of one
//     second.
//   - No MsgReadTime: now.
//
// # Inference, where the documents say nothing
//
//   - The pointer is the largest MsgReadTime ever accepted; a smaller one succeeds and changes
//     nothing.
//   - MsgReadTime may be a decimal string (documented) or an integer (several SDKs send one); null
//     is the same as absent; anything else is 90001. Arrival.Encoding shows which one was sent.
//   - If Report_Account is missing or unknown, the code is 90008 (its text mentions From_Account);
//     for Peer_Account it is 90003 (To_Account); if either has the wrong type, it is 60015.
//   - An unknown path is 60009, another method than POST 60002, a missing or invalid parameter
//     60025, a wrong sdkappid 70020.
//   - The order of checks: path, method, query, signature, admin, frequency, body, accounts.
//   - A signature's app and identifier are compared before it is verified with the key.
//   - A kick revokes every UserSig that was seen before it or was issued in an earlier second. A
//     UserSig issued in the second of the kick is valid, unless it is the very same text as an old
//     one: UserSigs have a resolution of one second.
//   - sendmsg uses the server's time; it ignores MsgTimeStamp and SendMsgControl.
//   - "200 calls a second" means: of the arrivals in any window of one second, those beyond the
//     limit get 60007.
//
// # The limit
//
// An arrival of admin_set_msg_read is stamped at the very beginning of the handler, before anything
// is read or checked, and under the lock of the log, so that stamps and log have the same order. An
// exact log of the last second decides: with Rate arrivals less than 1.000 s before it, a call gets
// 60007. Every request to the path counts, whatever its result: one with an invalid signature, one
// with a fault, and one that itself gets 60007. So a caller that does not slow down only gets
// through what a window leaves. Other commands have no limit here.
//
// # Faults
//
// Faults affect admin_set_msg_read only: the other commands keep working, so that the state can be
// inspected while the API is "down". Latency delays the response, not the effect: if a caller
// stopped waiting, its call has been applied. A rule selects by a hash of the seed, the rule's
// index in the list and the conversation or the number of the call, so that the same seed selects
// the same conversations. Only the first matching rule applies. Wire faults (all kinds but "code")
// precede all checks, as if a gateway caused them; "code" follows signature and limit and replaces
// the response. A handler can't refuse a connection: close the listener for that. "reset" and "cut"
// need a connection; a recorder sees the panic http.ErrAbortHandler. In a "hang" the client gets
// nothing for as long as it waits, also when the fault has been removed meanwhile.
//
// # What it does not do
//
// No message contents, no roaming messages, no deduplication of messages, no callbacks, no read
// receipts, no 70050 after many failures (use a fault), no TLS of its own, no durable state. One
// application, one admin.
//
// # Invariants
//
//   - It has no goroutines, and no clock but package time's: it runs inside a testing/synctest
//     bubble if New was called there.
//   - It holds no lock while sleeping, reading, or writing to a client; the lock that orders stamps
//     is held only for the log's own work.
//   - Memory is bounded by the constants in bounds.go. Too many accounts: 70398. Too many
//     conversations or messages: 91000. Full logs forget the oldest entries, and Stats.Forgotten
//     counts them.
//   - Differences of Arrival.At are exact (monotonic); the wall clock is read once, in New.
//   - Accounts come from clients: the page escapes them, the log truncates them.
//   - No signature and no key is logged or shown. Only the fault "echo-url" returns the URL, to its
//     sender.
package sandbox
