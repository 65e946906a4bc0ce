//! Messages, written field by field in either encoding. Fields that are zero, false or empty are
//! left out, but for those that readers of JSON take to be there: `always_*`.

use dunlin_core::publication::Encoding;

use super::{json, protobuf};

/// Appends to a buffer. A field is named by its number in Protobuf and its name in JSON.
pub(super) struct Writer<'a> {
    encoding: Encoding,
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(encoding: Encoding, out: &'a mut Vec<u8>) -> Self {
        Self { encoding, out }
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// A message and, in Protobuf, its length before it.
    pub(super) fn message(&mut self, write: impl FnOnce(&mut Self)) {
        match self.encoding {
            Encoding::Json => {
                self.out.push(b'{');
                write(self);
                self.out.push(b'}');
            }
            Encoding::Protobuf => {
                let start = self.out.len();
                write(self);
                protobuf::insert_length(self.out, start);
            }
        }
    }

    /// A field that is a message, also if it is empty.
    pub(super) fn field(&mut self, tag: u32, name: &str, write: impl FnOnce(&mut Self)) {
        match self.encoding {
            Encoding::Json => json::key(self.out, name),
            Encoding::Protobuf => protobuf::key(self.out, tag),
        }
        self.message(write);
    }

    /// A list that JSON has also when it is empty.
    pub(super) fn always_list<T>(
        &mut self,
        tag: u32,
        name: &str,
        items: &[T],
        write: impl Fn(&mut Self, &T),
    ) {
        if items.is_empty() && self.encoding == Encoding::Json {
            return self.raw(tag, name, b"[]");
        }
        self.list(tag, name, items, write);
    }

    /// A field that is a list of messages.
    pub(super) fn list<T>(
        &mut self,
        tag: u32,
        name: &str,
        items: &[T],
        write: impl Fn(&mut Self, &T),
    ) {
        match self.encoding {
            _ if items.is_empty() => {}
            Encoding::Json => {
                json::key(self.out, name);
                self.out.push(b'[');
                for item in items {
                    json::separate(self.out);
                    self.message(|message| write(message, item));
                }
                self.out.push(b']');
            }
            Encoding::Protobuf => {
                items.iter().for_each(|item| self.field(tag, name, |field| write(field, item)));
            }
        }
    }

    /// A field that is a map from texts, also if it is empty. `write` writes the value of an entry
    /// as a field with the number and name that it is given.
    pub(super) fn map<'e, T>(
        &mut self,
        tag: u32,
        name: &str,
        entries: impl Iterator<Item = (&'e str, T)>,
        write: impl Fn(&mut Self, u32, &str, T),
    ) {
        match self.encoding {
            Encoding::Json => self.field(tag, name, |object| {
                entries.for_each(|(key, value)| write(object, 0, key, value));
            }),
            Encoding::Protobuf => entries.for_each(|(key, value)| {
                self.field(tag, name, |entry| {
                    entry.any_text(1, "key", key);
                    write(entry, 2, "value", value);
                });
            }),
        }
    }

    pub(super) fn number(&mut self, tag: u32, name: &str, value: impl Into<u64>) {
        let value = value.into();
        match self.encoding {
            _ if value == 0 => {}
            Encoding::Json => {
                json::key(self.out, name);
                json::value(self.out, &value);
            }
            Encoding::Protobuf => protobuf::number(self.out, tag, value),
        }
    }

    /// A number that JSON has also when it is zero.
    pub(super) fn always_number(&mut self, tag: u32, name: &str, value: impl Into<u64>) {
        let value = value.into();
        match self.encoding {
            Encoding::Json if value == 0 => {
                json::key(self.out, name);
                json::value(self.out, &value);
            }
            _ => self.number(tag, name, value),
        }
    }

    pub(super) fn flag(&mut self, tag: u32, name: &str, value: bool) {
        match self.encoding {
            _ if !value => {}
            Encoding::Json => {
                json::key(self.out, name);
                json::value(self.out, &value);
            }
            Encoding::Protobuf => protobuf::number(self.out, tag, value.into()),
        }
    }

    pub(super) fn text(&mut self, tag: u32, name: &str, value: &str) {
        if !value.is_empty() {
            self.any_text(tag, name, value);
        }
    }

    /// A text that JSON has also when it is empty.
    pub(super) fn always_text(&mut self, tag: u32, name: &str, value: &str) {
        match self.encoding {
            Encoding::Json => self.any_text(tag, name, value),
            Encoding::Protobuf => self.text(tag, name, value),
        }
    }

    /// A text, also if it is empty.
    pub(super) fn any_text(&mut self, tag: u32, name: &str, value: &str) {
        match self.encoding {
            Encoding::Json => {
                json::key(self.out, name);
                json::value(self.out, value);
            }
            Encoding::Protobuf => protobuf::bytes(self.out, tag, value.as_bytes()),
        }
    }

    /// Bytes that someone else made. In JSON they are a value and not a string, if they are JSON.
    pub(super) fn data(&mut self, tag: u32, name: &str, value: Option<&[u8]>) {
        match (self.encoding, value) {
            (_, None) => {}
            (Encoding::Json, Some(value)) => self.raw(tag, name, json::text(value).as_bytes()),
            (Encoding::Protobuf, Some(value)) => self.raw(tag, name, value),
        }
    }

    /// Bytes that are as the encoding wants them.
    pub(super) fn raw(&mut self, tag: u32, name: &str, value: &[u8]) {
        match self.encoding {
            Encoding::Json => {
                json::key(self.out, name);
                self.out.extend_from_slice(value);
            }
            Encoding::Protobuf => protobuf::bytes(self.out, tag, value),
        }
    }
}
