//! Protobuf: each message behind its length. Fields are read one by one; unknown ones are skipped.

use super::{Command, Malformed, Publication, Push, Refusal, Reply, Subscribed, Unsubscribed};

/// Puts a command behind those already in a frame.
pub(super) fn put(frame: &mut Vec<u8>, id: u32, command: Command<'_>) {
    let mut message = Vec::new();
    if !matches!(command, Command::Pong) {
        put_number(&mut message, 1, id.into());
    }
    let mut body = Vec::new();
    match command {
        Command::Connect { token } => {
            put_bytes(&mut body, 1, token.as_bytes());
            put_message(&mut message, 4, &body);
        }
        Command::Subscribe { channel, recover } => {
            put_bytes(&mut body, 1, channel.as_bytes());
            if let Some((offset, epoch)) = recover {
                put_number(&mut body, 3, 1);
                put_bytes(&mut body, 6, epoch.as_bytes());
                put_number(&mut body, 7, offset);
            }
            put_message(&mut message, 5, &body);
        }
        Command::Publish { channel, data } => {
            put_bytes(&mut body, 1, channel.as_bytes());
            put_bytes(&mut body, 2, format!("\"{data}\"").as_bytes());
            put_message(&mut message, 7, &body);
        }
        Command::Pong => {}
    }
    put_varint(frame, message.len() as u64);
    frame.extend_from_slice(&message);
}

/// Reads all replies of a frame.
pub(super) fn read(mut frame: &[u8]) -> Result<Vec<Reply>, Malformed> {
    let mut replies = Vec::new();
    while !frame.is_empty() {
        replies.push(reply(take_bytes(&mut frame)?)?);
    }
    if replies.is_empty() { Err(Malformed) } else { Ok(replies) }
}

fn reply(bytes: &[u8]) -> Result<Reply, Malformed> {
    let mut reply = Reply::default();
    each_field(bytes, |number, value| {
        match number {
            1 => reply.id = value.number()? as u32,
            2 => reply.error = Some(refusal(value.bytes()?)?),
            4 => reply.push = Some(push(value.bytes()?)?),
            6 => reply.subscribe = Some(subscribed(value.bytes()?)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(reply)
}

fn refusal(bytes: &[u8]) -> Result<Refusal, Malformed> {
    let mut refusal = Refusal::default();
    each_field(bytes, |number, value| {
        match number {
            1 => refusal.code = value.number()? as u32,
            2 => refusal.message = value.text()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(refusal)
}

fn push(bytes: &[u8]) -> Result<Push, Malformed> {
    let mut push = Push::default();
    each_field(bytes, |number, value| {
        match number {
            2 => push.channel = value.text()?,
            4 => push.publication = Some(publication(value.bytes()?)?),
            7 => push.unsubscribe = Some(unsubscribed(value.bytes()?)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(push)
}

fn publication(bytes: &[u8]) -> Result<Publication, Malformed> {
    let mut publication = Publication::default();
    each_field(bytes, |number, value| {
        match number {
            4 => {
                let quoted = value.bytes()?;
                let text = quoted.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
                publication.data = String::from_utf8_lossy(text.unwrap_or_default()).into_owned();
            }
            6 => publication.offset = value.number()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(publication)
}

fn unsubscribed(bytes: &[u8]) -> Result<Unsubscribed, Malformed> {
    let mut unsubscribed = Unsubscribed::default();
    each_field(bytes, |number, value| {
        if number == 2 {
            unsubscribed.code = value.number()? as u32;
        }
        Ok(())
    })?;
    Ok(unsubscribed)
}

fn subscribed(bytes: &[u8]) -> Result<Subscribed, Malformed> {
    let mut subscribed = Subscribed::default();
    each_field(bytes, |number, value| {
        match number {
            3 => subscribed.recoverable = value.number()? != 0,
            6 => subscribed.epoch = value.text()?,
            7 => subscribed.publications.push(publication(value.bytes()?)?),
            8 => subscribed.recovered = value.number()? != 0,
            9 => subscribed.offset = value.number()?,
            12 => subscribed.was_recovering = value.number()? != 0,
            _ => {}
        }
        Ok(())
    })?;
    Ok(subscribed)
}

/// The value of a field: of the two wire types that are used here, or one that is skipped.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

impl<'a> Field<'a> {
    fn number(&self) -> Result<u64, Malformed> {
        if let Self::Number(number) = *self { Ok(number) } else { Err(Malformed) }
    }

    fn bytes(&self) -> Result<&'a [u8], Malformed> {
        if let Self::Bytes(bytes) = *self { Ok(bytes) } else { Err(Malformed) }
    }

    fn text(&self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Malformed)
    }
}

fn each_field<'a>(
    mut bytes: &'a [u8],
    mut on_field: impl FnMut(u64, Field<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes)?;
        let field = match key & 7 {
            0 => Field::Number(take_varint(&mut bytes)?),
            1 => skip(&mut bytes, 8)?,
            2 => Field::Bytes(take_bytes(&mut bytes)?),
            5 => skip(&mut bytes, 4)?,
            _ => return Err(Malformed),
        };
        on_field(key >> 3, field)?;
    }
    Ok(())
}

fn skip<'a>(bytes: &mut &[u8], count: usize) -> Result<Field<'a>, Malformed> {
    *bytes = bytes.get(count..).ok_or(Malformed)?;
    Ok(Field::Fixed)
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(take_varint(bytes)?).map_err(|_| Malformed)?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(taken)
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(Malformed)?;
        *bytes = rest;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Puts a number; zero is the default and not written.
fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    if number != 0 {
        put_varint(out, field << 3);
        put_varint(out, number);
    }
}

/// Puts bytes or text; none is the default and not written.
fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_message(out, field, bytes);
    }
}

/// Puts a message, also an empty one: that it is there says something.
fn put_message(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
