//! Writes the hand-made seeds of the WebSocket targets.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --example ws_seeds`

use std::{fs, io, path::Path};

use dunlin_ws::Deflater;

fn main() -> io::Result<()> {
    for (name, bytes) in wires() {
        write("ws_differential", name, &bytes)?;
        for options in [0, 1, 3] {
            let with_options = [&[options, 7], &bytes[..]].concat();
            write("ws_decode", &format!("{name}_{options}"), &with_options)?;
        }
    }
    for (name, head) in heads() {
        write("ws_handshake", name, head.as_bytes())?;
    }
    Ok(())
}

fn write(target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("seed_{name}")), bytes)
}

/// A frame, masked with zeros so that the fuzzer can read its payload.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = match payload.len() {
        length @ ..=125 => vec![first, 0x80 | length as u8],
        length => [&[first, 0xFE], &(length as u16).to_be_bytes()[..]].concat(),
    };
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

fn wires() -> Vec<(&'static str, Vec<u8>)> {
    let deflated = |payload: &[u8]| Deflater::new().deflate(payload).to_vec();
    let hello = deflated(b"hello, hello, hello");
    vec![
        ("text", frame(0x81, "καλημέρα".as_bytes())),
        ("masked", b"\x81\x82\x01\x02\x03\x04\x49\x6b".to_vec()),
        ("binary_126", frame(0x82, &[0xA5; 126])),
        ("bad_utf8", frame(0x81, b"\xF4\x90\x80\x80")),
        ("cut_utf8", [frame(0x01, b"\xCE"), frame(0x80, b"\xBA")].concat()),
        ("fragments", [frame(0x01, b"a"), frame(0x00, b""), frame(0x80, b"b")].concat()),
        (
            "four_fragments",
            [frame(0x02, b""), frame(0x00, b""), frame(0, b""), frame(0x80, b"")].concat(),
        ),
        ("ping_between", [frame(0x02, b"a"), frame(0x89, b"p"), frame(0x80, b"b")].concat()),
        ("message_inside", [frame(0x01, b"a"), frame(0x81, b"b")].concat()),
        ("ping_pong_close", [frame(0x89, b"p"), frame(0x8A, b""), frame(0x88, b"")].concat()),
        ("close", frame(0x88, b"\x03\xE8bye")),
        ("close_bad_code", frame(0x88, b"\x03\xED")),
        ("close_one_byte", frame(0x88, b"\x03")),
        ("not_masked", b"\x81\x02Hi".to_vec()),
        ("reserved", frame(0xB3, b"")),
        ("long_control", frame(0x89, &[0; 126])),
        ("not_minimal", b"\x81\xFE\x00\x01\x00\x00\x00\x00a".to_vec()),
        ("not_minimal_64", b"\x81\xFF\x00\x00\x00\x00\x00\x00\xFF\xFF\x00\x00\x00\x00".to_vec()),
        ("huge", b"\x82\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x00\x00\x00\x00".to_vec()),
        ("out_of_range", b"\x82\xFF\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".to_vec()),
        ("total_too_big", [frame(0x02, &[1; 4000]), frame(0x80, &[2; 97])].concat()),
        ("deflated", frame(0xC1, &hello)),
        ("deflated_fragments", [frame(0x41, &hello[..4]), frame(0x80, &hello[4..])].concat()),
        ("deflated_final_block", frame(0xC1, b"\xF3\x48\xCD\xC9\xC9\x07\x00\x00")),
        ("deflated_stored", frame(0xC1, b"\x00\x05\x00\xFA\xFFHello\x00")),
        ("deflated_cut", frame(0xC1, &hello[..hello.len() - 1])),
        ("deflated_bomb", frame(0xC2, &deflated(&[0; 100_000]))),
        ("deflated_bad_utf8", frame(0xC1, &deflated(b"\xFF\xFE"))),
    ]
}

fn heads() -> Vec<(&'static str, String)> {
    let good = "GET\nHost: a\nConnection: keep-alive, Upgrade\nUpgrade: websocket\n\
                Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let with = |more: &str| format!("{good}\n{more}");
    let offers = |offers: &str| with(&format!("Sec-WebSocket-Extensions: {offers}"));
    vec![
        ("good", good.to_owned()),
        ("post", good.replace("GET", "POST")),
        ("version", good.replace("13", "8")),
        ("key", good.replace("dGhl", "")),
        ("upgrade_list", good.replace("websocket", "h2c, WebSocket")),
        ("two_hosts", with("host: b")),
        ("body", with("Content-Length: 5")),
        ("chunked", with("Transfer-Encoding: chunked")),
        ("deflate", offers("permessage-deflate; client_max_window_bits")),
        (
            "deflate_windows",
            offers("permessage-deflate; server_max_window_bits=9; client_max_window_bits=\"15\""),
        ),
        (
            "deflate_fallback",
            offers("permessage-deflate; server_max_window_bits=10, permessage-deflate"),
        ),
        (
            "deflate_takeover",
            offers("permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        ),
        ("unknown", offers("x; y=\"a\\\"b, c\"; z, foo")),
        ("malformed", offers("permessage-deflate;;")),
    ]
}
