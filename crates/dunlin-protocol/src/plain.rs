//! The plain dialect: every message a client sends is published to its channel, every publication
//! is one message to every subscriber, byte for byte and of the same kind. It has no other words.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use dunlin_core::{
    channel::ChannelName,
    publication::{Format, Kind, Publication},
};
use dunlin_ws::{Deflater, MessageKind};

/// What a client's message publishes.
#[must_use]
pub fn publication(channel: &ChannelName, kind: MessageKind, payload: &[u8]) -> Publication {
    let kind = match kind {
        MessageKind::Text => Kind::Text,
        MessageKind::Binary => Kind::Binary,
    };
    Publication::new(channel.clone(), kind, Bytes::copy_from_slice(payload))
}

/// Makes the frames that subscribers read; one per shard, for the compressor in it.
#[derive(Default)]
pub struct Encoder {
    deflater: Option<Deflater>,
}

impl Encoder {
    /// The frames of a run of publications, one after another. Each frame is encoded once per node
    /// and format, whoever asks first.
    pub fn run(&mut self, publications: &[Arc<Publication>], format: Format) -> Bytes {
        if let [publication] = publications {
            return self.frame(publication, format).clone();
        }
        let length = publications.iter().map(|p| self.frame(p, format).len()).sum();
        let mut run = BytesMut::with_capacity(length);
        for publication in publications {
            run.extend_from_slice(self.frame(publication, format));
        }
        run.freeze()
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
        let run = Encoder::default().run(&[text("a"), text("bc")], Format::Plain);
        assert_eq!(&run[..], b"\x81\x01a\x81\x02bc");
    }

    #[test]
    fn a_lone_frame_is_shared_and_not_copied() {
        let publication = text("hello");
        let first = Encoder::default().run(&[Arc::clone(&publication)], Format::Plain);
        let second = Encoder::default().run(&[publication], Format::Plain);
        assert_eq!(first.as_ptr(), second.as_ptr());
    }

    #[test]
    fn only_what_shrinks_is_sent_compressed() {
        let mut encoder = Encoder::default();
        let long = "tick ".repeat(100);
        let run = encoder.run(&[text(&long)], Format::PlainDeflated);
        assert!(run[0] == 0xC1 && run.len() < 40, "{run:?}");
        let run = encoder.run(&[text("x")], Format::PlainDeflated);
        assert_eq!(&run[..], b"\x81\x01x");
    }
}
