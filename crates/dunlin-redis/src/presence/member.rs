//! What is known of a member as bytes: user, client and the two infos, each behind its length in
//! four bytes, big endian; the length of what there is not is `FFFFFFFF`.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use dunlin_core::publication::ClientInfo;

pub(super) fn write(info: &ClientInfo) -> Bytes {
    let mut out = BytesMut::new();
    for part in [
        Some(info.user.as_bytes()),
        Some(info.client.as_bytes()),
        info.conn_info.as_deref(),
        info.chan_info.as_deref(),
    ] {
        // Parts come from messages and tokens, which are shorter by far.
        out.put_u32(part.map_or(ABSENT, |part| part.len() as u32));
        out.put_slice(part.unwrap_or_default());
    }
    out.freeze()
}

/// None of bytes that no node of ours wrote.
pub(super) fn read(bytes: &Bytes) -> Option<ClientInfo> {
    // A copy: what is read together lives in one buffer.
    let mut rest = Bytes::copy_from_slice(bytes);
    let info = ClientInfo {
        user: take_text(&mut rest)?,
        client: take_text(&mut rest)?,
        conn_info: take(&mut rest)?,
        chan_info: take(&mut rest)?,
    };
    rest.is_empty().then_some(info)
}

fn take_text(rest: &mut Bytes) -> Option<Arc<str>> {
    str::from_utf8(&take(rest)??).ok().map(Arc::from)
}

fn take(rest: &mut Bytes) -> Option<Option<Bytes>> {
    match rest.try_get_u32().ok()? {
        ABSENT => Some(None),
        length => {
            let length = length as usize;
            (length <= rest.len()).then(|| Some(rest.split_to(length)))
        }
    }
}

const ABSENT: u32 = u32::MAX;

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
            let bytes = write(&info);
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
