// Package sandbox is a local Tencent IM REST server: an http.Handler that answers
// v4/openim/admin_set_msg_read and a few neighbours as the vendor documents them, keeps what a call
// changes, and can be made to fail in the ways a real one does. It is there to look at (`markread
// dev`, `markread sandbox`), to test against, and to measure with.
//
// # Commands
//
//	POST /v4/openim/admin_set_msg_read          moves a conversation's read pointer
//	POST /v4/openim/sendmsg                     a message from From_Account (or the admin), unread
//	POST /v4/openim/get_c2c_unread_msg_num      unread messages of an account, of all peers together
//	POST /v4/im_open_login_svc/account_import   makes an account
//	POST /v4/im_open_login_svc/kick             revokes the UserSigs that an account has: 70052
//
// For other processes on this machine (peer address loopback, Host a loopback name, no forwarding
// header; else 403):
//
//	GET, PUT /sandbox/faults                    Faults, SetFaults as JSON; refused: 400 and a line
//	GET      /sandbox/stats                     Stats as JSON
//	GET      /sandbox/arrivals                  Arrivals, one JSON object a line, oldest first
//	GET      /sandbox/read-time?report=&peer=   {"report","peer","read_time" (null: none),"unread"}
//	GET      /sandbox/read-times                the same of all with a pointer, sorted, one a line
//	GET      /sandbox                           a page with all of this
//
// # Documented, and kept
//
//   - Five query parameters, POST, JSON; HTTP status 200 whatever the ErrorCode.
//   - UserSigs are verified for real, and answered with 70001, 70003, 70009, 70013, 70014, 70052;
//     60010 for who is not the admin.
//   - 60002, 60009, 60012, 60015, 60025, 70020, 70107, 70398, 70402, 90001, 90003, 90005, 90007,
//     90008, 93000 as the code lists say.
//   - A message whose time is at or before the pointer is read. Times have a resolution of one
//     second.
//   - No MsgReadTime: now.
//
// # Inference, where the documents say nothing
//
//   - The pointer is the largest MsgReadTime ever accepted; a smaller one succeeds and changes
//     nothing.
//   - MsgReadTime may be a decimal string (documented) or an integer (several SDKs send one); null
//     is the same as none; anything else is 90001. Arrival.Encoding tells which came.
//   - Report_Account missing or unknown is 90008 (the code's text speaks of From_Account),
//     Peer_Account 90003 (To_Account); of a wrong type both are 60015.
//   - An unknown path is 60009, another method than POST 60002, a missing or bad parameter 60025, a
//     wrong sdkappid 70020.
//   - The order of checks: path, method, query, signature, admin, frequency, body, accounts.
//   - A signature's app and identifier are compared before it is checked with the key.
//   - A kick takes effect on every UserSig that was seen before it or was issued in an earlier
//     second. One that is issued in the second of the kick is good, unless it is the very same text
//     as an old one: UserSigs count in seconds.
//   - sendmsg takes the server's time, ignores MsgTimeStamp and SendMsgControl.
//   - 200 calls a second means: of the arrivals in any window of one second, those beyond the limit
//     get 60007.
//
// # The limit
//
// An arrival of admin_set_msg_read is stamped at the very beginning of the handler, before anything
// is read or checked, under the lock that keeps the log, so that stamps and log have one order. An
// exact log of the last second decides: with Rate arrivals less than 1.000 s before it, a call gets
// 60007. Every request to the path counts, whatever becomes of it: one with a bad signature, one
// that meets a fault, and one that was itself answered 60007, so that a caller who does not slow
// down gets nothing through but what a window leaves. Other commands have no limit here.
//
// # Faults
//
// Faults hit admin_set_msg_read only: the other commands stay true, so that one can look while the
// API is "down". Latency delays the answer, not the deed: a call whose caller gave up has been
// carried out. A rule's choice is a hash of the seed, the rule's place in the list and the
// conversation or the number of the call, so that the same seed chooses the same conversations. The
// first rule that matches is the only one. Wire faults (all kinds but "code") come before all
// checks, as from a gateway in front; "code" comes after signature and limit, in place of the
// answer. A refused connection can't be had from a handler: close the listener. "reset" and "cut"
// need a connection; a recorder sees the panic http.ErrAbortHandler. After a hang the client gets
// nothing for as long as it waits, also when the fault has been taken back.
//
// # Not done
//
// No message contents, no roaming messages, no deduplication of messages, no callbacks, no read
// receipts, no 70050 after many failures (inject it), no TLS of its own, no durable state. One
// application, one admin.
//
// # Invariants
//
//   - No goroutines and no clock but package time's: it runs inside a testing/synctest bubble if
//     New was called there.
//   - No lock is held while sleeping, reading, or writing to a client; the stamp's lock does no
//     work but the log's.
//   - Memory is bounded by the constants in bounds.go. Full of accounts: 70398. Full of
//     conversations or messages: 91000. Full logs forget the oldest, and Stats.Forgotten counts.
//   - Differences of Arrival.At are exact (monotonic); the wall clock is read once, in New.
//   - Accounts come from clients: the page escapes them, the log cuts them.
//   - No signature and no key is kept in a log or shown. Only the fault "echo-url" sends the URL
//     back, to who sent it.
package sandbox
