//! How clients are told why their connection ends.

use dunlin_core::error::Disconnect;
use dunlin_protocol::centrifuge::close_code;

#[test]
fn each_reason_has_a_code_of_the_protocol() {
    let internal = (3004, "internal server error");
    let expected = [
        (Disconnect::ClientLeft, (3000, "connection closed")),
        (Disconnect::ProtocolError, (3501, "protocol error")),
        (Disconnect::ProxyLeft, (3000, "connection closed")),
        (Disconnect::InvalidText, (3501, "text is not utf-8")),
        (Disconnect::MessageTooBig, (3501, "message too big")),
        (Disconnect::TooManyFragments, (3501, "too many fragments")),
        (Disconnect::MessageUnfinished, (3008, "slow")),
        (Disconnect::ControlFlood, (3501, "too many control frames")),
        (Disconnect::PongTimeout, (3012, "no pong")),
        (Disconnect::SlowReader, (3008, "slow")),
        (Disconnect::MemoryShort, (3008, "node is short of memory")),
        (Disconnect::BrokerLost, internal),
        (Disconnect::PublishUnknown, internal),
        (Disconnect::NotAllowed, (3507, "permission denied")),
        (Disconnect::BadRequest, (3501, "bad request")),
        (Disconnect::InvalidToken, (3500, "invalid token")),
        (Disconnect::Stale, (3502, "stale")),
        (Disconnect::Expired, (3005, "connection expired")),
        (Disconnect::SubscriptionExpired, (3006, "subscription expired")),
        (Disconnect::PositionLost, (3010, "insufficient state")),
        (Disconnect::Forced, (3503, "force disconnect")),
        (Disconnect::ConnectionLimit, (3504, "connection limit")),
        (Disconnect::ChannelLimit, (3505, "channel limit")),
        (Disconnect::TooManyRequests, (3013, "too many requests")),
        (Disconnect::NotAvailable, (3508, "not available")),
        (Disconnect::NodeLeaving, (3001, "shutdown")),
        (Disconnect::Internal, internal),
    ];
    assert_eq!(Disconnect::ALL.map(|why| (why, close_code(why))), expected);
}
