//! Differences between publications: what a subscriber makes of them is what was published.

use serde_json::{Value, json};

use super::each;
use crate::harness::{CentrifugeClient, KEY_SETTING};

const CHANNEL: &str = "delta:a";

/// A subscriber that puts together what it gets.
struct Reader {
    client: CentrifugeClient,
    /// The last payload.
    text: String,
    epoch: String,
    offset: u64,
    /// How many came as differences.
    differences: usize,
}

impl Reader {
    fn subscribe(client: CentrifugeClient) -> Self {
        let (text, epoch) = (String::new(), String::new());
        let mut reader = Self { client, text, epoch, offset: 0, differences: 0 };
        reader.subscribe_again(json!({"channel": CHANNEL, "delta": "fossil"}));
        reader
    }

    /// Comes back to where it left.
    fn recover(&mut self) {
        let at = json!({"offset": self.offset, "epoch": self.epoch});
        let mut params = json!({"channel": CHANNEL, "delta": "fossil", "recover": true});
        params.as_object_mut().unwrap().extend(at.as_object().unwrap().clone());
        self.subscribe_again(params);
    }

    fn subscribe_again(&mut self, params: Value) {
        let subscribed = self.client.result("subscribe", params);
        assert_eq!(subscribed["delta"], true, "{subscribed}");
        subscribed["epoch"].as_str().unwrap().clone_into(&mut self.epoch);
        self.offset = subscribed["offset"].as_u64().unwrap_or_default();
        // The first after a subscribe is whole.
        self.text.clear();
        let missed = subscribed["publications"].as_array().cloned().unwrap_or_default();
        missed.iter().for_each(|publication| self.put(publication));
    }

    fn put(&mut self, publication: &Value) {
        let data = publication["data"].as_str().unwrap_or_else(|| panic!("{publication}"));
        self.text = match publication["delta"] == true {
            true => apply(&self.text, data),
            false => data.to_owned(),
        };
        self.differences += usize::from(publication["delta"] == true);
        self.offset += 1;
        assert_eq!(publication["offset"], self.offset);
    }

    fn read(&mut self) -> &str {
        let push = self.client.push();
        self.put(&push["pub"]);
        &self.text
    }
}

/// What a Fossil delta makes of `base`.
fn apply(base: &str, delta: &str) -> String {
    let (size, mut rest) = delta.split_once('\n').unwrap();
    let mut made = Vec::new();
    loop {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '~').unwrap();
        let (count, mark) = (number(&rest[..end]), &rest[end..=end]);
        rest = &rest[end + 1..];
        match mark {
            "@" => {
                let (offset, behind) = rest.split_once(',').unwrap();
                let offset = number(offset);
                made.extend(&base.as_bytes()[offset..offset + count]);
                rest = behind;
            }
            ":" => {
                made.extend(&rest.as_bytes()[..count]);
                rest = &rest[count..];
            }
            _ => break,
        }
    }
    assert_eq!(made.len(), number(size));
    String::from_utf8(made).unwrap()
}

/// A number as Fossil writes it.
fn number(digits: &str) -> usize {
    const DIGITS: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";
    digits.chars().fold(0, |number, digit| number * 64 + DIGITS.find(digit).unwrap())
}

/// A long payload that differs from others in a few places only.
fn payload(number: usize) -> Value {
    json!({"before": "ä".repeat(100), "number": number, "after": "\"\\".repeat(50)})
}

#[test]
fn differences_add_up() {
    each(&[], |flock| {
        let mut publisher = CentrifugeClient::connect(flock.node(0), "42");
        let subscribe = |turn| Reader::subscribe(CentrifugeClient::connect(flock.node(turn), "42"));
        let mut readers: Vec<_> = (0..4).map(subscribe).collect();
        for number in 0..40 {
            publisher.publish(CHANNEL, payload(number));
            // Who comes later gets the whole first, beside others who get differences.
            if number % 8 == 7 {
                readers.push(subscribe(number / 8));
                publisher.publish(CHANNEL, "short");
                readers.iter_mut().for_each(|reader| while reader.read() != "\"short\"" {});
                continue;
            }
            let expected = payload(number).to_string();
            readers.iter_mut().for_each(|reader| assert_eq!(reader.read(), expected));
        }
        let first = &readers[0];
        assert!(first.differences >= 20, "only {} differences", first.differences);
    });
}

#[test]
fn what_the_application_publishes_is_sent_as_differences_too() {
    each(&[KEY_SETTING], |flock| {
        let mut reader = Reader::subscribe(CentrifugeClient::connect(flock.node(1), "42"));
        for number in 0..3 {
            let body = json!({"channel": CHANNEL, "data": payload(number)}).to_string();
            flock.node(0).result("publish", &body);
            assert_eq!(reader.read(), payload(number).to_string());
        }
        assert_eq!(reader.differences, 2);
    });
}

#[test]
fn what_is_recovered_is_whole_and_so_is_the_first_behind_it() {
    each(&[], |flock| {
        let mut publisher = CentrifugeClient::connect(flock.node(0), "42");
        let mut reader = Reader::subscribe(CentrifugeClient::connect(flock.node(1), "42"));
        for number in 0..8 {
            publisher.publish(CHANNEL, payload(number));
            assert_eq!(reader.read(), payload(number).to_string());
            reader.client.result("unsubscribe", json!({"channel": CHANNEL}));
            publisher.publish(CHANNEL, payload(number + 1));
            reader.recover();
            // It may come a little later to this node.
            if reader.text.is_empty() {
                reader.read();
            }
            assert_eq!(reader.text, payload(number + 1).to_string());
        }
    });
}

#[test]
fn who_wants_no_differences_gets_none() {
    each(&[], |flock| {
        let mut client = CentrifugeClient::connect(flock.node(1), "42");
        assert_eq!(client.subscribe(CHANNEL).get("delta"), None);
        let subscribed = client.result("subscribe", json!({"channel": "c", "delta": "fossil"}));
        assert_eq!(subscribed, json!({}));
        let mut reader = Reader::subscribe(CentrifugeClient::connect(flock.node(1), "42"));
        for number in 0..3 {
            client.publish(CHANNEL, payload(number));
            assert_eq!(client.publication(CHANNEL), payload(number));
            assert_eq!(reader.read(), payload(number).to_string());
        }
        assert_eq!(reader.differences, 2);
    });
}
