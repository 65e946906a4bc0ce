//! Close codes: how a client is told why its connection ends. From 3500 to 3999 it stays away, else
//! it comes again.

use dunlin_core::error::Disconnect;

/// How a client of the dialect is told why its connection ends: the close code and the reason.
#[must_use]
pub fn close_code(why: Disconnect) -> (u16, &'static str) {
    match why {
        // A proxy that is gone hears nothing; whoever does should come again.
        Disconnect::ClientLeft | Disconnect::ProxyLeft => (3000, "connection closed"),
        Disconnect::NodeLeaving => (3001, "shutdown"),
        Disconnect::Internal | Disconnect::BrokerLost | Disconnect::PublishUnknown => {
            (3004, "internal server error")
        }
        Disconnect::Expired => (3005, "connection expired"),
        Disconnect::SubscriptionExpired => (3006, "subscription expired"),
        // No client of the dialect sends fragments: an unfinished message is a slow network.
        Disconnect::SlowReader | Disconnect::MessageUnfinished => (3008, "slow"),
        Disconnect::MemoryShort => (3008, why.reason()),
        Disconnect::PositionLost => (3010, "insufficient state"),
        Disconnect::PongTimeout => (3012, "no pong"),
        Disconnect::TooManyRequests => (3013, "too many requests"),
        Disconnect::InvalidToken => (3500, "invalid token"),
        // One code for all that a client should not send again; the reason says which it was.
        Disconnect::BadRequest
        | Disconnect::ProtocolError
        | Disconnect::InvalidText
        | Disconnect::MessageTooBig
        | Disconnect::TooManyFragments
        | Disconnect::ControlFlood => (3501, why.reason()),
        Disconnect::Stale => (3502, "stale"),
        Disconnect::Forced => (3503, "force disconnect"),
        Disconnect::ConnectionLimit => (3504, "connection limit"),
        Disconnect::ChannelLimit => (3505, "channel limit"),
        Disconnect::NotAllowed => (3507, "permission denied"),
        Disconnect::NotAvailable => (3508, "not available"),
    }
}
