//! The server half of the WebSocket protocol (RFC 6455) with compressed messages (RFC 7692).
//!
//! Sans-IO: bytes in, values out. No socket, no clock, no task, no panic on any input, and every
//! buffer is bounded by [`Limits`]. An upgrade is judged by [`accept`], frames of the client go
//! through a [`Decoder`], frames to clients are made by [`message_frame`] and its siblings. A frame
//! of a server is not masked, so one encoded frame serves every connection.
//!
//! ```
//! use dunlin_ws::{Compression, Context, Decoder, Event, Limits, MessageKind, message_frame};
//!
//! let mut context = Context::new(Limits::default()); // one per thread
//! let mut decoder = Decoder::new(Compression::Off); // one per connection
//! let mut input = *b"\x81\x82\x01\x02\x03\x04\x49\x6b"; // a masked text frame: "Hi"
//! let (used, event) = decoder.decode(&mut context, &mut input)?;
//! assert_eq!(used, 8);
//! assert_eq!(event, Some(Event::Message { kind: MessageKind::Text, payload: b"Hi" }));
//! assert_eq!(&message_frame(MessageKind::Text, b"Hi")[..], b"\x81\x02Hi");
//! # Ok::<(), dunlin_ws::ProtocolError>(())
//! ```

mod close;
mod decode;
mod deflate;
mod error;
mod frame;
mod handshake;
mod header;
mod mask;
mod offer;
mod partial;
mod utf8;

pub use close::CloseCode;
pub use decode::{Context, Decoder, Event, Limits};
pub use deflate::{Compression, Deflater};
pub use error::ProtocolError;
pub use frame::{
    MessageKind, close_frame, compressed_message_frame, frame_end, message_frame, ping_frame,
    pong_frame,
};
pub use handshake::{Accept, Refusal, Request, accept};
