//! What Redis keeps of a member: whether its end is announced (`1` or `0`), and the message that
//! announces it, ready to be published by who finds that its node died.

use bytes::{Buf, Bytes, BytesMut};
use dunlin_core::{
    channel::ChannelName,
    presence::Farewell,
    publication::{ClientInfo, Details, Kind, Publication},
};

use crate::envelope::{self, Format};

pub(super) fn write(channel: &ChannelName, info: &ClientInfo, farewell: Farewell) -> Bytes {
    let details = Details { info: Some(info.clone()), ..Details::default() };
    let leave = Publication::new(channel.clone(), Kind::Leave, Bytes::new()).with_details(details);
    let mut out = BytesMut::from(match farewell {
        Farewell::Announced => "1",
        Farewell::Silent => "0",
    });
    out.extend_from_slice(&envelope::head(&leave, Format::Enveloped));
    out.freeze()
}

/// None of bytes that no node of ours wrote.
pub(super) fn read(bytes: &Bytes) -> Option<ClientInfo> {
    // A copy: what is read together lives in one buffer.
    let mut message = Bytes::copy_from_slice(bytes);
    if message.is_empty() {
        return None;
    }
    message.advance(1);
    envelope::open_kept(message).ok()?.details?.info
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    proptest! {
        #[test]
        fn a_member_comes_back(
            user: String,
            client: String,
            infos in prop::array::uniform2(prop::option::of(any::<Vec<u8>>())),
        ) {
            let [conn_info, chan_info] = infos.map(|info| info.map(Bytes::from));
            let info =
                ClientInfo { user: user.into(), client: client.into(), conn_info, chan_info };
            let bytes = write(&ChannelName::new("c").unwrap(), &info, Farewell::Announced);
            assert_eq!(read(&bytes), Some(info));
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes.slice(..end)), None);
            }
        }

        #[test]
        fn any_bytes_are_read_or_not(bytes: Vec<u8>) {
            let _ = read(&Bytes::from(bytes));
        }
    }
}
