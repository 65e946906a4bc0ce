//! Why a connection ends and why a publish is refused: the closed sets behind close codes and
//! metric labels.

use crate::position::Position;

/// Why the node ends a connection. The order is the order of the metrics page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disconnect {
    /// The client closed, or its socket did.
    ClientLeft,
    /// The client broke RFC 6455.
    ProtocolError,
    /// A proxy in front said good-bye for the client, in a frame that clients do not send.
    ProxyLeft,
    /// Text that is not UTF-8.
    InvalidText,
    /// A message over `limits.message_bytes`, before or after inflation.
    MessageTooBig,
    /// More fragments than `limits.message_fragments`.
    TooManyFragments,
    /// A message not finished within `limits.message_age`.
    MessageUnfinished,
    /// More pings, pongs and closes than any honest client sends.
    ControlFlood,
    /// No sign of life within `ws.pong_timeout` after a ping.
    PongTimeout,
    /// The backlog reached `limits.backlog_bytes` or `limits.backlog_age`.
    SlowReader,
    /// The node had no memory left, and kept much for this client.
    MemoryShort,
    /// A publish could not be handed to the broker within its bounds.
    BrokerLost,
    /// A publish was handed to the broker and its answer never came.
    PublishUnknown,
    /// The client published where it may only listen.
    NotAllowed,
    /// A frame or command that makes no sense, or comes at the wrong time.
    BadRequest,
    /// A token that does not count.
    InvalidToken,
    /// The client did not say who it is in time.
    Stale,
    /// The connection's token ran out and no new one came.
    Expired,
    /// The token of a server-side subscription ran out.
    SubscriptionExpired,
    /// What the client missed can no longer be told.
    PositionLost,
    /// The application ended the connection.
    Forced,
    /// The user has all the connections it may have.
    ConnectionLimit,
    /// The client has all the subscriptions it may have.
    ChannelLimit,
    /// The client goes on with what it was told is too much.
    TooManyRequests,
    /// A command that this server does not offer.
    NotAvailable,
    /// The node shuts down.
    NodeLeaving,
    /// A bug of ours; the log has it.
    Internal,
}

impl Disconnect {
    /// All reasons, for tables by reason.
    pub const ALL: [Self; 27] = [
        Self::ClientLeft,
        Self::ProtocolError,
        Self::ProxyLeft,
        Self::InvalidText,
        Self::MessageTooBig,
        Self::TooManyFragments,
        Self::MessageUnfinished,
        Self::ControlFlood,
        Self::PongTimeout,
        Self::SlowReader,
        Self::MemoryShort,
        Self::BrokerLost,
        Self::PublishUnknown,
        Self::NotAllowed,
        Self::BadRequest,
        Self::InvalidToken,
        Self::Stale,
        Self::Expired,
        Self::SubscriptionExpired,
        Self::PositionLost,
        Self::Forced,
        Self::ConnectionLimit,
        Self::ChannelLimit,
        Self::TooManyRequests,
        Self::NotAvailable,
        Self::NodeLeaving,
        Self::Internal,
    ];

    /// The WebSocket close code (RFC 6455, 7.4.1 and the IANA registry).
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::ClientLeft => 1000,
            Self::ProtocolError | Self::ProxyLeft => 1002,
            Self::InvalidText => 1007,
            Self::TooManyFragments
            | Self::MessageUnfinished
            | Self::ControlFlood
            | Self::NotAllowed
            | Self::BadRequest
            | Self::InvalidToken
            | Self::Stale
            | Self::Expired
            | Self::SubscriptionExpired
            | Self::Forced
            | Self::ConnectionLimit
            | Self::ChannelLimit
            | Self::NotAvailable => 1008,
            Self::MessageTooBig => 1009,
            Self::Internal => 1011,
            Self::NodeLeaving => 1012,
            Self::PongTimeout
            | Self::SlowReader
            | Self::MemoryShort
            | Self::BrokerLost
            | Self::PublishUnknown
            | Self::TooManyRequests
            | Self::PositionLost => 1013,
        }
    }

    /// The short reason a client reads beside the code.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::ClientLeft => "bye",
            Self::ProtocolError => "protocol error",
            Self::ProxyLeft => "close frame not masked",
            Self::InvalidText => "text is not utf-8",
            Self::MessageTooBig => "message too big",
            Self::TooManyFragments => "too many fragments",
            Self::MessageUnfinished => "message not finished in time",
            Self::ControlFlood => "too many control frames",
            Self::PongTimeout => "no pong in time",
            Self::SlowReader => "reading too slowly",
            Self::MemoryShort => "node is short of memory",
            Self::BrokerLost => "broker away, try again later",
            Self::PublishUnknown => "broker cut, last publish may be lost",
            Self::NotAllowed => "publishing is not allowed here",
            Self::BadRequest => "bad request",
            Self::InvalidToken => "invalid token",
            Self::Stale => "stale",
            Self::Expired => "connection expired",
            Self::SubscriptionExpired => "subscription expired",
            Self::PositionLost => "position lost, start anew",
            Self::Forced => "force disconnect",
            Self::ConnectionLimit => "connection limit",
            Self::ChannelLimit => "channel limit",
            Self::TooManyRequests => "too many requests",
            Self::NotAvailable => "not available",
            Self::NodeLeaving => "node is leaving, reconnect",
            Self::Internal => "internal error",
        }
    }

    /// The value of the metric label `reason`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ClientLeft => "client_left",
            Self::ProtocolError => "protocol_error",
            Self::ProxyLeft => "proxy_left",
            Self::InvalidText => "invalid_text",
            Self::MessageTooBig => "message_too_big",
            Self::TooManyFragments => "too_many_fragments",
            Self::MessageUnfinished => "message_unfinished",
            Self::ControlFlood => "control_flood",
            Self::PongTimeout => "pong_timeout",
            Self::SlowReader => "slow_reader",
            Self::MemoryShort => "memory_short",
            Self::BrokerLost => "broker_lost",
            Self::PublishUnknown => "publish_unknown",
            Self::NotAllowed => "not_allowed",
            Self::BadRequest => "bad_request",
            Self::InvalidToken => "invalid_token",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::SubscriptionExpired => "subscription_expired",
            Self::PositionLost => "position_lost",
            Self::Forced => "forced",
            Self::ConnectionLimit => "connection_limit",
            Self::ChannelLimit => "channel_limit",
            Self::TooManyRequests => "too_many_requests",
            Self::NotAvailable => "not_available",
            Self::NodeLeaving => "node_leaving",
            Self::Internal => "internal",
        }
    }
}

/// What a session or an API caller is answered instead of a result. Codes and messages are those of
/// the Centrifuge protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientError {
    /// A failure of ours, or the broker is away: worth another try.
    Internal,
    /// Who asks is not known.
    Unauthorized,
    /// The channel's namespace is not configured.
    UnknownChannel,
    /// Who asks may not.
    PermissionDenied,
    /// There is no such method.
    MethodNotFound,
    /// The session is subscribed to the channel.
    AlreadySubscribed,
    /// The session has all it may have.
    LimitExceeded,
    /// The request makes no sense.
    BadRequest,
    /// The channel, or the node, does not offer that.
    NotAvailable,
    /// The token ran out: get another.
    TokenExpired,
    /// What was asked for ran out already.
    Expired,
    /// Too many requests: slow down.
    TooManyRequests,
    /// The history does not reach from that position to now.
    UnrecoverablePosition,
    /// Another request for pages of the same is under way.
    ConcurrentPagination,
}

impl ClientError {
    /// The code, 100 to 113.
    #[must_use]
    pub fn code(self) -> u32 {
        100 + self as u32
    }

    /// The message beside the code.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Internal => "internal server error",
            Self::Unauthorized => "unauthorized",
            Self::UnknownChannel => "unknown channel",
            Self::PermissionDenied => "permission denied",
            Self::MethodNotFound => "method not found",
            Self::AlreadySubscribed => "already subscribed",
            Self::LimitExceeded => "limit exceeded",
            Self::BadRequest => "bad request",
            Self::NotAvailable => "not available",
            Self::TokenExpired => "token expired",
            Self::Expired => "expired",
            Self::TooManyRequests => "too many requests",
            Self::UnrecoverablePosition => "unrecoverable position",
            Self::ConcurrentPagination => "concurrent pagination",
        }
    }

    /// Whether the same request may succeed a little later.
    #[must_use]
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::Internal | Self::TooManyRequests | Self::ConcurrentPagination)
    }
}

impl From<BrokerLost> for ClientError {
    fn from(_: BrokerLost) -> Self {
        Self::Internal
    }
}

impl From<PublishError> for ClientError {
    fn from(_: PublishError) -> Self {
        Self::Internal
    }
}

/// Why a publish did not happen, or may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PublishError {
    /// The broker was away and the waiting room full or the wait too long. Nobody got it.
    #[error("the broker is away and the publish could not wait any longer")]
    Refused,
    /// It was sent to the broker and the link died before the answer: it happened or not, and is
    /// not repeated.
    #[error("the link to the broker was cut before it answered")]
    Unknown,
    /// The broker answered with an error. Nobody got it.
    #[error("the broker rejected the publish")]
    Rejected,
}

/// How a publish ended: where it is in the channel's stream, if that is kept.
pub type PublishOutcome = Result<Option<Position>, PublishError>;

impl From<PublishError> for Disconnect {
    /// How the plain dialect, which has no error frames, tells a publisher.
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Refused | PublishError::Rejected => Self::BrokerLost,
            PublishError::Unknown => Self::PublishUnknown,
        }
    }
}

/// The broker is away, so a subscription that promises anything cannot be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker is away")]
pub struct BrokerLost;

/// Why a part of a channel's history could not be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The broker is away.
    #[error(transparent)]
    BrokerLost(#[from] BrokerLost),
    /// The position asked for is of a past that is forgotten.
    #[error("the position is of another epoch")]
    WrongEpoch,
}

impl From<HistoryError> for ClientError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::BrokerLost(lost) => lost.into(),
            HistoryError::WrongEpoch => Self::UnrecoverablePosition,
        }
    }
}
