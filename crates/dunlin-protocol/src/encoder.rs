//! From publications to the bytes that subscribers read, whatever dialect they speak.

use std::{borrow::Cow, cell::RefCell, sync::Arc};

use bytes::{Bytes, BytesMut};
use dunlin_core::publication::{Dialect, Format, Kind, Publication};
use dunlin_ws::{Deflater, MessageKind};

use crate::{centrifuge, plain};

/// Makes the frames that subscribers read; one per shard, for the compressor in it.
#[derive(Default)]
pub struct Encoder {
    deflater: RefCell<Option<Deflater>>,
}

impl Encoder {
    /// The frames of a run of publications, one after another, as one buffer. Each frame is encoded
    /// once per node and format, whoever asks first; the frame of a lone publication is lent as it
    /// is, and only several need a buffer of their own. `base` is the publication before the run,
    /// for formats that write differences.
    pub fn run<'a>(
        &self,
        publications: &'a [Arc<Publication>],
        format: Format,
        base: Option<&Publication>,
    ) -> Cow<'a, Bytes> {
        if let [publication] = publications {
            return Cow::Borrowed(self.frame(publication, format, base));
        }
        let mut base = base;
        let mut run = BytesMut::new();
        for publication in publications {
            run.extend_from_slice(self.frame(publication, format, base));
            if matches!(publication.kind(), Kind::Text | Kind::Binary) {
                base = Some(publication);
            }
        }
        Cow::Owned(run.freeze())
    }

    /// One message in one frame.
    pub fn message(&self, kind: MessageKind, payload: &[u8], is_deflated: bool) -> Bytes {
        if is_deflated {
            let mut deflater = self.deflater.borrow_mut();
            let deflated = deflater.get_or_insert_default().deflate(payload);
            // A message may stay uncompressed (RFC 7692, 6); what does not shrink does.
            if deflated.len() < payload.len() {
                return dunlin_ws::compressed_message_frame(kind, deflated);
            }
        }
        dunlin_ws::message_frame(kind, payload)
    }

    fn frame<'a>(
        &self,
        publication: &'a Publication,
        format: Format,
        base: Option<&Publication>,
    ) -> &'a Bytes {
        publication.frame(format, |publication| match format.dialect {
            Dialect::Plain => {
                let kind = plain::message_kind(publication.kind());
                self.message(kind, publication.data(), format.is_deflated)
            }
            Dialect::Centrifuge(push) => {
                let payload = centrifuge::push(publication, push, base);
                self.message(centrifuge::message_kind(push.encoding), &payload, format.is_deflated)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use dunlin_core::channel::ChannelName;

    use super::*;

    fn text(data: &str) -> Arc<Publication> {
        let channel = ChannelName::new("c").unwrap();
        Arc::new(plain::publication(&channel, MessageKind::Text, data.as_bytes()))
    }

    #[test]
    fn a_run_is_its_frames_in_order() {
        let publications = [text("a"), text("bc")];
        let run = Encoder::default().run(&publications, Format::PLAIN, None);
        assert_eq!(&run[..], b"\x81\x01a\x81\x02bc");
    }

    #[test]
    fn a_lone_frame_is_shared_and_not_copied() {
        let publication = text("hello");
        let run = [publication];
        let first = Encoder::default().run(&run, Format::PLAIN, None);
        let second = Encoder::default().run(&run, Format::PLAIN, None);
        assert_eq!(first.as_ptr(), second.as_ptr());
    }

    #[test]
    fn only_what_shrinks_is_sent_compressed() {
        let encoder = Encoder::default();
        let (long, short) = ([text(&"tick ".repeat(100))], [text("x")]);
        let run = encoder.run(&long, Format::PLAIN_DEFLATED, None);
        assert!(run[0] == 0xC1 && run.len() < 40, "{run:?}");
        let run = encoder.run(&short, Format::PLAIN_DEFLATED, None);
        assert_eq!(&run[..], b"\x81\x01x");
    }
}
