//! From requests as they are written to what they ask for.

use dunlin_core::{
    command::{self, Connect, History, Request, Resume, Subscribe},
    filter,
};

use super::{
    ChannelRequest, Command, ConnectRequest, FilterNode, HistoryRequest, PublishRequest,
    RpcRequest, StreamPosition, SubRefreshRequest, SubscribeRequest,
};

impl From<Command> for command::Command {
    fn from(command: Command) -> Self {
        let id = command.id();
        let nothing = if id == 0 { Request::Pong } else { Request::Unknown };
        Self { id, request: command.request().unwrap_or(nothing) }
    }
}

impl Command {
    /// What is asked for; of several requests the first.
    fn request(self) -> Option<Request> {
        let connect = self.connect.map(Request::from);
        connect
            .or_else(|| self.subscribe.map(Request::from))
            .or_else(|| self.unsubscribe.map(|it| Request::Unsubscribe(it.into())))
            .or_else(|| self.publish.map(Request::from))
            .or_else(|| self.presence.map(|it| Request::Presence(it.into())))
            .or_else(|| self.presence_stats.map(|it| Request::PresenceStats(it.into())))
            .or_else(|| self.history.map(Request::from))
            .or_else(|| self.ping.map(|_| Request::Unknown))
            .or_else(|| self.send.map(|it| Request::Send(it.data.unwrap_or_default())))
            .or_else(|| self.rpc.map(Request::from))
            .or_else(|| self.refresh.map(|it| Request::Refresh(it.token.unwrap_or_default())))
            .or_else(|| self.sub_refresh.map(Request::from))
    }
}

impl From<ConnectRequest> for Request {
    fn from(request: ConnectRequest) -> Self {
        Self::Connect(Box::new(Connect {
            token: request.token.unwrap_or_default(),
            channels: request.subs.into_iter().map(|(name, sub)| (name, sub.resume())).collect(),
        }))
    }
}

impl From<SubscribeRequest> for Request {
    fn from(mut request: SubscribeRequest) -> Self {
        Self::Subscribe(Box::new(Subscribe {
            channel: request.channel.take().unwrap_or_default(),
            token: request.token.take().unwrap_or_default(),
            positioned: request.positioned(),
            recoverable: request.recoverable(),
            join_leave: request.join_leave(),
            delta: request.delta.take().unwrap_or_default(),
            filter: request.tf.take().map(filter::FilterNode::from),
            flag: request.flag(),
            kind: request.r#type(),
            resume: request.resume(),
        }))
    }
}

impl SubscribeRequest {
    fn resume(self) -> Option<Resume> {
        let is_wanted = self.recover();
        let resume = Resume { offset: self.offset(), epoch: self.epoch.unwrap_or_default() };
        is_wanted.then_some(resume)
    }
}

impl From<FilterNode> for filter::FilterNode {
    fn from(node: FilterNode) -> Self {
        Self {
            op: node.op.unwrap_or_default(),
            key: node.key.unwrap_or_default(),
            cmp: node.cmp.unwrap_or_default(),
            val: node.val.unwrap_or_default(),
            vals: node.vals,
            nodes: node.nodes.into_iter().map(Self::from).collect(),
        }
    }
}

impl From<ChannelRequest> for String {
    fn from(request: ChannelRequest) -> Self {
        request.channel.unwrap_or_default()
    }
}

impl From<PublishRequest> for Request {
    fn from(request: PublishRequest) -> Self {
        match request.r#type() {
            STREAM => Self::Publish {
                channel: request.channel.unwrap_or_default(),
                data: request.data.unwrap_or_default(),
            },
            _ => Self::Unknown,
        }
    }
}

impl From<HistoryRequest> for Request {
    fn from(request: HistoryRequest) -> Self {
        Self::History(Box::new(History {
            limit: request.limit(),
            is_reverse: request.reverse(),
            since: request.since.map(StreamPosition::resume),
            channel: request.channel.unwrap_or_default(),
        }))
    }
}

impl StreamPosition {
    fn resume(self) -> Resume {
        Resume { offset: self.offset(), epoch: self.epoch.unwrap_or_default() }
    }
}

impl From<RpcRequest> for Request {
    fn from(request: RpcRequest) -> Self {
        Self::Rpc {
            method: request.method.unwrap_or_default(),
            data: request.data.unwrap_or_default(),
        }
    }
}

impl From<SubRefreshRequest> for Request {
    fn from(request: SubRefreshRequest) -> Self {
        match request.r#type() {
            STREAM => Self::SubRefresh {
                channel: request.channel.unwrap_or_default(),
                token: request.token.unwrap_or_default(),
            },
            _ => Self::Unknown,
        }
    }
}

/// The type of subscriptions that there are here; the others are maps and shared polls.
const STREAM: i32 = 0;
