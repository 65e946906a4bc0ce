//! Messages that a program publishes to a channel in Redis, and what a plain subscriber gets.

use std::sync::Mutex;

use super::{
    Case, Corpus, Event, check_service,
    frames::{LAST, until_the_last},
    play_all,
};
use crate::harness::{Client, NodeCommand, Redis};

#[test]
fn envelopes_are_answered_as_told() {
    let corpus = Corpus::load("envelopes");
    let redis = Redis::start();
    let url = format!("redis.url={}", redis.url());
    let settings = corpus.settings.iter().map(String::as_str);
    let settings: Vec<_> = [url.as_str()].into_iter().chain(settings).collect();
    let node = NodeCommand::new().set(&settings).start();
    let connections = Mutex::new(Vec::new());
    let skipped = || node.metrics().sum("dunlin_redis_messages_skipped_total");
    let before = skipped();
    let wrong = play_all(&corpus.cases, |case| {
        let mut connection = connections.lock().unwrap().pop().unwrap_or_else(|| redis.connect());
        let seen = play(node.address, case, &mut connection);
        connections.lock().unwrap().push(connection);
        seen
    });
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    let newer = |case: &&Case| case.expected.iter().any(|event| event.name == "skipped");
    let newer = corpus.cases.iter().filter(newer).count();
    assert_eq!(skipped() - before, newer as f64, "what is skipped is counted");
    check_service(&node);
    node.assert_conserved();
}

fn play(
    address: std::net::SocketAddr,
    case: &Case,
    connection: &mut redis::Connection,
) -> Vec<Event> {
    let channel = case.name.replace('/', ".");
    let mut client = Client::join(address, &channel);
    let mut publish = |message: &[u8]| {
        let channel = format!("dunlin:{channel}");
        let told: usize =
            redis::cmd("PUBLISH").arg(channel).arg(message).query(connection).unwrap();
        assert_eq!(told, 1, "{}: the node has subscribed", case.place);
    };
    publish(&case.input);
    publish(LAST.as_bytes());
    let mut seen = until_the_last(&mut client);
    if seen.is_empty() {
        // What is skipped is counted for all cases at once.
        let skipped = Event::new("skipped", None, None);
        let nothing = Event::new("nothing", None, None);
        seen.push(if case.expected == [skipped.clone()] { skipped } else { nothing });
    }
    seen
}
