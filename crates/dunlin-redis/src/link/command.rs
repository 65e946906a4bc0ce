//! Writes commands the way Redis reads them: an array of bulk strings.

use bytes::{BufMut, BytesMut};

/// Appends one command of whole arguments.
pub fn write(out: &mut BytesMut, arguments: &[&[u8]]) {
    begin(out, arguments.len());
    for argument in arguments {
        write_argument(out, &[argument]);
    }
}

/// Opens a command of `arguments` arguments, its name included; exactly so many must follow.
pub fn begin(out: &mut BytesMut, arguments: usize) {
    write_header(out, b'*', arguments);
}

/// Appends one argument that is the concatenation of `parts`, so that nothing is joined before.
pub fn write_argument(out: &mut BytesMut, parts: &[&[u8]]) {
    let length = parts.iter().map(|part| part.len()).sum();
    out.reserve(length + HEADER_BYTES_MAX + 2);
    write_header(out, b'$', length);
    for part in parts {
        out.put_slice(part);
    }
    out.put_slice(b"\r\n");
}

/// Appends a number as one argument.
pub fn write_number(out: &mut BytesMut, number: u64) {
    let mut digits = [0; DIGITS_MAX];
    let start = decimal(number, &mut digits);
    write_argument(out, &[&digits[start..]]);
}

/// Written from its end, so that it is put in one piece.
fn write_header(out: &mut BytesMut, kind: u8, number: usize) {
    let mut header = [b'\n'; HEADER_BYTES_MAX];
    header[HEADER_BYTES_MAX - 2] = b'\r';
    let start = decimal(number as u64, &mut header[..HEADER_BYTES_MAX - 2]) - 1;
    header[start] = kind;
    out.put_slice(&header[start..]);
}

/// Writes a number to the end of `digits` and returns where it starts.
fn decimal(mut number: u64, digits: &mut [u8]) -> usize {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return at;
        }
    }
}

const DIGITS_MAX: usize = 20;
/// A kind byte, twenty digits and the line's end.
const HEADER_BYTES_MAX: usize = DIGITS_MAX + 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = BytesMut::new();
        write(&mut out, &[b"HELLO", b"3", b""]);
        assert_eq!(&out[..], b"*3\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$0\r\n\r\n");
    }

    #[test]
    fn an_argument_may_come_in_parts() {
        let mut out = BytesMut::new();
        begin(&mut out, 1);
        write_argument(&mut out, &[b"dunlin:", b"", b"chat"]);
        assert_eq!(&out[..], b"*1\r\n$11\r\ndunlin:chat\r\n");
    }

    #[test]
    fn an_argument_may_be_a_number() {
        let mut out = BytesMut::new();
        for number in [0, 1907, u64::MAX] {
            write_number(&mut out, number);
        }
        assert_eq!(&out[..], b"$1\r\n0\r\n$4\r\n1907\r\n$20\r\n18446744073709551615\r\n");
    }

    #[test]
    fn the_longest_header_fits() {
        let mut out = BytesMut::new();
        write_header(&mut out, b'$', usize::MAX);
        assert_eq!(&out[..], format!("${}\r\n", usize::MAX).as_bytes());
    }
}
