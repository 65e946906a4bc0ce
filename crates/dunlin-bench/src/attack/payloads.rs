//! What attackers send: frames that nobody should send, and messages full of commands.

use crate::websocket::{self, TEXT, apply_mask};

/// Puts a masked frame whose first byte (FIN, reserved bits, opcode) is anything.
pub(super) fn put_frame(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    put_declared(out, first, payload.len());
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], MASK);
}

/// Puts the head of a masked frame, and not what it declares.
pub(super) fn put_declared(out: &mut Vec<u8>, first: u8, payload_bytes: usize) {
    let at = out.len();
    websocket::put_masked_header(out, 0, payload_bytes, MASK);
    out[at] = first;
}

/// A text message.
pub(super) fn text(payload: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    put_frame(&mut out, FIN | TEXT, payload.as_ref());
    out
}

/// One message with these commands; all get the same id, as nobody waits for the answers.
pub(super) fn message<S: AsRef<str>>(commands: impl IntoIterator<Item = S>) -> Vec<u8> {
    let one = |command: S| format!("{{\"id\":9,{}}}", command.as_ref());
    text(commands.into_iter().map(one).collect::<Vec<_>>().join("\n"))
}

/// As many times the same as fit into `bytes`.
pub(super) fn repeated(one: &[u8], bytes: usize) -> Vec<u8> {
    one.repeat((bytes / one.len()).max(1))
}

pub(super) const CONNECT: &str = r#""connect":{}"#;

pub(super) fn subscribe(channel: &str) -> String {
    format!(r#""subscribe":{{"channel":"{channel}"}}"#)
}

pub(super) fn unsubscribe(channel: &str) -> String {
    format!(r#""unsubscribe":{{"channel":"{channel}"}}"#)
}

pub(super) fn publish(channel: &str, bytes: usize) -> String {
    format!(r#""publish":{{"channel":"{channel}","data":"{}"}}"#, "x".repeat(bytes))
}

pub(super) const FIN: u8 = 0x80;
/// What frames are sent in, so that few writes do much.
pub(super) const WRITE_BYTES: usize = 32 * 1024;
const MASK: [u8; 4] = [0xA7, 0x3C, 0x51, 0x08];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::FrameHeader;

    #[test]
    fn a_message_holds_its_commands_line_by_line() {
        let mut frame = message([CONNECT, "\"rpc\":{}"]);
        let header = FrameHeader::read(&frame).unwrap();
        assert_eq!((header.opcode, header.last, header.mask), (TEXT, true, Some(MASK)));
        apply_mask(&mut frame[header.header_bytes..], MASK);
        let text = std::str::from_utf8(&frame[header.header_bytes..]).unwrap();
        assert_eq!(text, "{\"id\":9,\"connect\":{}}\n{\"id\":9,\"rpc\":{}}");
    }

    #[test]
    fn a_frame_may_declare_what_it_does_not_hold() {
        let mut frame = Vec::new();
        put_declared(&mut frame, 0x72, 1 << 40);
        let header = FrameHeader::read(&frame).unwrap();
        assert_eq!((header.opcode, header.last), (0x72, false));
        assert_eq!((header.payload_bytes, header.header_bytes), (1 << 40, frame.len()));
    }
}
