//! What holds for any command and any event: a command arrives as it was sent, and an event says
//! the same in both encodings.

use bytes::Bytes;
use dunlin_core::publication::{Delta, Details, Encoding, Kind, Publication, PushFormat};
use dunlin_protocol::centrifuge::{commands, push, write_event};
use proptest::{collection::vec, option, prelude::*};
use serde_json::Value;

use super::{any_command, any_event, client, schema};

proptest! {
    #[test]
    fn commands_arrive_as_they_were_sent(sent in vec(any_command::command(), 1..5)) {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let message = client::message_of(encoding, &sent);
            let read: Result<Vec<_>, _> = commands(encoding, &message, usize::MAX).collect();
            prop_assert_eq!(read.as_ref(), Ok(&sent), "{:?}", encoding);
        }
    }

    #[test]
    fn an_event_says_the_same_in_both_encodings(events in vec(any_event::event(), 1..4)) {
        let [mut json, mut protobuf] = [Vec::new(), Vec::new()];
        for event in &events {
            write_event(Encoding::Json, event, &mut json);
            write_event(Encoding::Protobuf, event, &mut protobuf);
        }
        prop_assert_eq!(lines(&json), schema::replies(&protobuf));
    }

    #[test]
    fn a_push_says_the_same_in_both_encodings(
        publication in any_event::publication(),
        number in option::of(1_u32..),
    ) {
        let [json, protobuf] = [Encoding::Json, Encoding::Protobuf].map(|encoding| {
            push(&publication, PushFormat { encoding, number, delta: Delta::Off }, None)
        });
        prop_assert_eq!(lines(&json), schema::replies(&protobuf));
    }

    /// Whatever is published as text: what subscribers who read JSON get is one line of JSON, and
    /// with differences it is a string.
    #[test]
    fn any_text_makes_a_line_of_json(text: String, before: String, is_joined: bool) {
        let details = || Details { allows_delta: true, ..Details::default() };
        let publication = |text: &str| {
            let payload = Bytes::copy_from_slice(text.as_bytes());
            Publication::new(any_event::channel(), Kind::Text, payload).with_details(details())
        };
        let joined = if is_joined { [&*before, &text].concat() } else { text };
        let (base, publication) = (publication(&before), publication(&joined));
        for delta in [Delta::Off, Delta::Full, Delta::Fossil] {
            let format = PushFormat { encoding: Encoding::Json, number: None, delta };
            let [reply] = &lines(&push(&publication, format, Some(&base)))[..] else {
                panic!("one line");
            };
            let data = &reply["push"]["pub"]["data"];
            prop_assert!(delta == Delta::Off || data.is_string());
        }
    }
}

/// The JSON texts of a message, one on each line.
fn lines(json: &[u8]) -> Vec<Value> {
    let lines = str::from_utf8(json).unwrap().split('\n');
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}
