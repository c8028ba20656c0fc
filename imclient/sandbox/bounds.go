package sandbox

import "time"

// What the server keeps is bounded by these, whatever its clients do.
const (
	maxAccounts      = 1_000_000 // imported accounts
	maxConversations = 2_000_000 // (account, peer) pairs with a read pointer or unread messages
	maxUnread        = 1_000     // unread messages of a conversation: the newest are counted
	maxUnreadTotal   = 5_000_000 // unread messages of all conversations
	maxArrivals      = 1 << 18   // calls in the log, and those of a second that can be told apart
	maxCodes         = 1_000     // distinct ErrorCodes in Stats
	maxSeenSigs      = 64        // verified UserSigs that need no second verification
	maxKicked        = 10_000    // identifiers with a kick
	maxRules         = 1_000     // fault rules

	maxAccountBytes = 32        // of an account id; documented
	maxBodyBytes    = 12 << 10  // of a request: above is 93000
	maxFaultsBytes  = 1 << 20   // of PUT /sandbox/faults
	maxLoggedBytes  = 64        // of an account in the log, where malformed ones are kept too
	maxLatency      = time.Hour // of a fault's latency
)
