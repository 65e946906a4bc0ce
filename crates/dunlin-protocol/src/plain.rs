//! The plain dialect: every message a client sends is published to its channel, every publication
//! is one message to every subscriber, byte for byte and of the same kind. It has no other words.

use std::{borrow::Cow, sync::Arc};

use bytes::{Bytes, BytesMut};
use dunlin_core::{
    channel::ChannelName,
    publication::{Format, Kind, Publication},
};
use dunlin_ws::{Deflater, MessageKind};

/// What a client's message publishes. The payload is copied once, into the frame that most of its
/// subscribers will get.
#[must_use]
pub fn publication(channel: &ChannelName, kind: MessageKind, payload: &[u8]) -> Publication {
    let frame = dunlin_ws::message_frame(kind, payload);
    let payload_start = frame.len() - payload.len();
    let kind = match kind {
        MessageKind::Text => Kind::Text,
        MessageKind::Binary => Kind::Binary,
    };
    Publication::with_plain_frame(channel.clone(), kind, frame, payload_start)
}

/// Makes the frames that subscribers read; one per shard, for the compressor in it.
#[derive(Default)]
pub struct Encoder {
    deflater: Option<Deflater>,
}

impl Encoder {
    /// The frames of a run of publications, one after another, as one buffer. Each frame is encoded
    /// once per node and format, whoever asks first; the frame of a lone publication is lent as it
    /// is, and only several need a buffer of their own.
    pub fn run<'a>(
        &mut self,
        publications: &'a [Arc<Publication>],
        format: Format,
    ) -> Cow<'a, Bytes> {
        if let [publication] = publications {
            return Cow::Borrowed(self.frame(publication, format));
        }
        let length = publications.iter().map(|p| self.frame(p, format).len()).sum();
        let mut run = BytesMut::with_capacity(length);
        for publication in publications {
            run.extend_from_slice(self.frame(publication, format));
        }
        Cow::Owned(run.freeze())
    }

    fn frame<'a>(&mut self, publication: &'a Publication, format: Format) -> &'a Bytes {
        publication.frame(format, |publication| self.encode(publication, format))
    }

    fn encode(&mut self, publication: &Publication, format: Format) -> Bytes {
        let kind = match publication.kind() {
            Kind::Text => MessageKind::Text,
            Kind::Binary => MessageKind::Binary,
        };
        let data = publication.data();
        match format {
            Format::Plain => dunlin_ws::message_frame(kind, data),
            Format::PlainDeflated => {
                let deflater = self.deflater.get_or_insert_default();
                let deflated = deflater.deflate(data);
                // A message may stay uncompressed (RFC 7692, 6); what does not shrink does.
                if deflated.len() < data.len() {
                    dunlin_ws::compressed_message_frame(kind, deflated)
                } else {
                    dunlin_ws::message_frame(kind, data)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(data: &str) -> Arc<Publication> {
        let channel = ChannelName::new("c").unwrap();
        Arc::new(publication(&channel, MessageKind::Text, data.as_bytes()))
    }

    #[test]
    fn a_run_is_its_frames_in_order() {
        let publications = [text("a"), text("bc")];
        let run = Encoder::default().run(&publications, Format::Plain);
        assert_eq!(&run[..], b"\x81\x01a\x81\x02bc");
    }

    #[test]
    fn a_lone_frame_is_shared_and_not_copied() {
        let publication = text("hello");
        let run = [publication];
        let first = Encoder::default().run(&run, Format::Plain);
        let second = Encoder::default().run(&run, Format::Plain);
        assert_eq!(first.as_ptr(), second.as_ptr());
    }

    #[test]
    fn only_what_shrinks_is_sent_compressed() {
        let mut encoder = Encoder::default();
        let (long, short) = ([text(&"tick ".repeat(100))], [text("x")]);
        let run = encoder.run(&long, Format::PlainDeflated);
        assert!(run[0] == 0xC1 && run.len() < 40, "{run:?}");
        let run = encoder.run(&short, Format::PlainDeflated);
        assert_eq!(&run[..], b"\x81\x01x");
    }
}
