//! Writes the hand-made seeds of the Redis targets.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --example redis_seeds`

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    for (name, text) in RESP {
        for bound in [0, 1, 2] {
            let with_options = [&[bound, 7], text.as_bytes()].concat();
            write("resp_decode", &format!("{name}_{bound}"), &with_options)?;
        }
    }
    for (name, payload) in PAYLOADS {
        write("envelope", name, payload)?;
    }
    Ok(())
}

fn write(target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("seed_{name}")), bytes)
}

const RESP: [(&str, &str); 12] = [
    ("message", ">3\r\n$7\r\nmessage\r\n$11\r\ndunlin:chat\r\n$5\r\nhello\r\n"),
    (
        "messages",
        ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n\
             >3\r\n$7\r\nmessage\r\n$1\r\nb\r\n$0\r\n\r\n",
    ),
    ("subscribe", ">3\r\n$9\r\nsubscribe\r\n$11\r\ndunlin:chat\r\n:1\r\n+PONG\r\n"),
    ("published", ":1\r\n:0\r\n-NOPERM no\r\n:-3\r\n"),
    (
        "hello",
        "%4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n\
         $5\r\nproto\r\n:3\r\n$7\r\nmodules\r\n*0\r\n",
    ),
    (
        "scalars",
        "_\r\n#t\r\n#f\r\n,1.5\r\n(12345678901234567890\r\n=7\r\ntxt:abc\r\n!5\r\nERR x\r\n",
    ),
    ("nulls", "$-1\r\n*-1\r\n*0\r\n~0\r\n%0\r\n"),
    ("nested", "*2\r\n*1\r\n~1\r\n:1\r\n%1\r\n+a\r\n*1\r\n_\r\n"),
    ("attribute", "|1\r\n+ttl\r\n:5\r\n*1\r\n|1\r\n+a\r\n:1\r\n$2\r\nhi\r\n"),
    ("deep", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"),
    ("long", "$100\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
    ("wrong", "$3\r\nabcd\r\n:x\r\n>0\r\n*999999999\r\n"),
];

const PAYLOADS: [(&str, &[u8]); 15] = [
    ("empty", b""),
    ("text", "grüße".as_bytes()),
    ("bytes", b"\x00\xFE"),
    ("binary", b"\xFF\x11\x00hi"),
    ("enveloped_text", b"\xFF\x10\x00hi"),
    ("flags", b"\xFF\x11\x1Fhi"),
    ("version", b"\xFF\x21\x00hi"),
    ("kind", b"\xFF\x15\x00hi"),
    ("join", b"\xFF\x12\x10\x06\x01\x01u\x02cl"),
    ("left", b"\xFF\x13\x10\x0b\x07\x01u\x02cl\x01{\x02[]"),
    ("details", b"\xFF\x10\x10\x09\x18\x01\x04lang\x01dhi"),
    ("details_newer", b"\xFF\x11\x10\x05\x90new!hi"),
    ("place", b"\xFF\x14\x00epoch678branch78offset78hi"),
    ("place_binary", b"\xFF\x14\x00epoch678branch78offset78\xFF\x11\x00hi"),
    ("truncated", b"\xFF\x11"),
];
