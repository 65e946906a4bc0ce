//! Orders: what the application wants done to its clients, on whichever node they are. They are
//! answered once the broker has them.

use bytes::Bytes;
use dunlin_core::{
    auth::{ID_BYTES_MAX, claims::SubscriptionOptions},
    command::Resume,
    control::{Disconnect, Order, Refresh, Subscribe, Unsubscribe, Whom},
    error::ClientError,
    json,
};
use serde_json::value::RawValue;

use super::{
    Api, channel,
    failure::{Failure, seconds},
    fields,
    reply::{Answer, Reply},
    request::DEPTH_MAX,
};
use crate::clock::unix_ms;

/// What a client is told unless the application says otherwise.
const FORCED: (u32, &str) = (3503, "force disconnect");

/// The close code of RFC 6455 that says that all is done.
const NORMAL: u32 = 1000;

/// The longest reason that fits into a close frame, in bytes.
const REASON_BYTES_MAX: usize = 123;

impl Api {
    pub(super) async fn subscribe(&self, fields: fields::Subscribe) -> Reply {
        let whom = whom(fields.user, fields.client, fields.session)?;
        let channel = channel::name("channel", fields.channel)?;
        self.options(&channel)?;
        let options = SubscriptionOptions {
            info: value("info", fields.info.as_deref(), fields.b64info.as_deref())?,
            data: value("data", fields.data.as_deref(), fields.b64data.as_deref())?,
            overrides: fields.overrides.map(Into::into).unwrap_or_default(),
        };
        let expire_at = seconds("expire_at", fields.expire_at)?;
        let recover_since = fields.recover_since.map(|since| Resume {
            offset: since.offset.unwrap_or_default(),
            epoch: since.epoch.unwrap_or_default(),
        });
        let order = |whom| Subscribe { whom, channel, options, expire_at, recover_since };
        self.order_to(whom, |whom| Order::Subscribe(Box::new(order(whom)))).await
    }

    pub(super) async fn unsubscribe(&self, fields: fields::Unsubscribe) -> Reply {
        let whom = whom(fields.user, fields.client, fields.session)?;
        let channel = match fields.channel.filter(|name| !name.is_empty()) {
            None => None,
            written => {
                let channel = channel::name("channel", written)?;
                self.options(&channel)?;
                Some(channel)
            }
        };
        self.order_to(whom, |whom| Order::Unsubscribe(Unsubscribe { whom, channel })).await
    }

    pub(super) async fn disconnect(&self, fields: fields::Disconnect) -> Reply {
        let whom = whom(fields.user, fields.client, fields.session)?;
        let written = fields.disconnect.unwrap_or_default();
        let code = written.code.filter(|code| *code > 0);
        let reason = written.reason.unwrap_or_default();
        let (code, reason) = match code {
            None if reason.is_empty() => (FORCED.0, FORCED.1.to_owned()),
            code => (code.unwrap_or(FORCED.0), reason),
        };
        if code != NORMAL && !(3000..5000).contains(&code) {
            return Err(Failure::of_field("disconnect.code", "expected 1000, or 3000 to 4999"));
        }
        if reason.len() > REASON_BYTES_MAX {
            let why = format_args!("expected at most {REASON_BYTES_MAX} bytes");
            return Err(Failure::of_field("disconnect.reason", why));
        }
        let whitelist = fields.whitelist.unwrap_or_default();
        let whitelist = whitelist.into_iter().map(Into::into).collect();
        let order = |whom| Disconnect { whom, whitelist, code, reason: reason.into() };
        self.order_to(whom, |whom| Order::Disconnect(order(whom))).await
    }

    pub(super) async fn refresh(&self, fields: fields::Refresh) -> Reply {
        let whom = whom(fields.user, fields.client, fields.session)?;
        let info = value("info", fields.info.as_deref(), None)?;
        let expired = fields.expired.unwrap_or_default();
        let expire_at = seconds("expire_at", fields.expire_at)?;
        let order = |whom| Refresh { whom, expired, expire_at, info };
        self.order_to(whom, |whom| Order::Refresh(order(whom))).await
    }

    pub(super) async fn revoke_token(&self, fields: fields::RevokeToken) -> Reply {
        let id = id("uid", fields.uid)?;
        let until = seconds("expire_at", fields.expire_at)?;
        self.order(Order::RevokeToken { id, until }).await
    }

    pub(super) async fn invalidate_user_tokens(
        &self,
        fields: fields::InvalidateUserTokens,
    ) -> Reply {
        // Less than was asked for would be revoked than the caller believes, or more.
        if fields.channel.is_some_and(|channel| !channel.is_empty()) {
            let why = "tokens are invalidated for all channels; leave channel out";
            return Err(Failure::new(ClientError::NotAvailable, why));
        }
        let user = id("user", fields.user)?;
        let until = seconds("expire_at", fields.expire_at)?;
        let issued_before = seconds("issued_before", fields.issued_before)?;
        let issued_before = issued_before.unwrap_or_else(|| unix_ms() / 1000);
        self.order(Order::RevokeUser { user, issued_before, until }).await
    }

    /// An order to nobody is done.
    async fn order_to(&self, whom: Option<Whom>, order: impl FnOnce(Whom) -> Order) -> Reply {
        match whom {
            Some(whom) => self.order(order(whom)).await,
            None => Ok(Answer::Done {}),
        }
    }

    pub(super) async fn order(&self, order: Order) -> Reply {
        self.control.order(order).await?;
        Ok(Answer::Done {})
    }
}

/// Which connections are meant, if any can be. There are no sessions beside connections, so the
/// name of one is that of a client; no connection has two different names.
fn whom(
    user: Option<String>,
    client: Option<String>,
    session: Option<String>,
) -> Result<Option<Whom>, Failure> {
    let named = |name: Option<String>| name.filter(|name| !name.is_empty());
    let user = named(user).ok_or_else(|| Failure::of_field("user", "it is missing"))?.into();
    let client = match (named(client), named(session)) {
        (Some(client), Some(session)) if client != session => return Ok(None),
        (client, session) => client.or(session),
    };
    Ok(Some(Whom { user, client: client.map(Into::into) }))
}

/// The id of a token or a user.
fn id(field: &'static str, written: Option<String>) -> Result<Box<str>, Failure> {
    let fits = |id: &String| (1..=ID_BYTES_MAX).contains(&id.len());
    let wrong = || Failure::of_field(field, format_args!("expected 1 to {ID_BYTES_MAX} bytes"));
    written.filter(fits).map(Into::into).ok_or_else(wrong)
}

/// The value of a field, which may be written in base64 instead.
fn value(
    field: &'static str,
    plain: Option<&RawValue>,
    base64: Option<&str>,
) -> Result<Option<Bytes>, Failure> {
    json::either(plain, base64, DEPTH_MAX).map_err(|why| Failure::of_field(field, why))
}
