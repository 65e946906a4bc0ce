//! Answers of Redis, read.

use bytes::BytesMut;

use super::*;
use crate::link::{resp::Decoder, value::Frame};

/// What Redis answers.
fn value(text: &str) -> Value {
    let mut buffer = BytesMut::from(text.replace('\n', "\r\n").as_str());
    match Decoder::new(1 << 20).decode(&mut buffer) {
        Ok(Some(Frame::Reply(value))) if buffer.is_empty() => value,
        other => panic!("{other:?}"),
    }
}

/// One range, with its owner and the replicas.
fn slots(range: (u16, u16), members: &[(&str, u16, &str)]) -> Value {
    let text = |text: &str| Value::Bulk(text.to_owned().into());
    let mut parts = vec![Value::Integer(range.0.into()), Value::Integer(range.1.into())];
    parts.extend(members.iter().map(|(host, port, id)| {
        let host = if *host == "null" { Value::Null } else { text(host) };
        let port = Value::Integer((*port).into());
        Value::Array(vec![host, port, text(id), Value::Map(Vec::new())])
    }));
    Value::Array(vec![Value::Array(parts)])
}

fn read(slots: &Value, nodes: &str) -> Option<Report> {
    let asked = Asked { host: "front.example", security: Security::Plain };
    Report::read(slots, &Value::Verbatim(format!("txt:{nodes}").into()), &asked)
}

fn endpoint(host: &str, port: u16) -> Option<Endpoint> {
    Some(Endpoint::Tcp { host: host.to_owned(), port, security: Security::Plain })
}

const NODES: &str = "\
a 10.0.0.1:7000@17000,a.example myself,master - 0 0 3 connected 0-99 [93->-b] [5-<-c]
b ::1:7001@17001 slave a 0 1796 3 connected
c :0@0,,tls-port=0 master,fail,noaddr - 1796 1796 12 disconnected
";

#[test]
fn answers_of_redis_are_read() {
    let ranges = "*2\n*4\n:0\n:5460\n*4\n$9\n127.0.0.1\n:7000\n$1\na\n*0\n\
                  *4\n$9\n127.0.0.1\n:7001\n$1\nb\n%1\n$8\nhostname\n$3\nb.x\n\
                  *3\n:5461\n:16383\n*4\n$9\n127.0.0.1\n:7002\n$1\nc\n*0\n";
    let report = read(&value(ranges), NODES).unwrap();
    assert_eq!(report.by, NodeId::new("a"));
    for partition in Partition::all() {
        let owner = if partition.slot() <= 5460 { "a" } else { "c" };
        assert_eq!(report.owners[partition.place()], Some(NodeId::new(owner)));
    }
    let node = |id| report.nodes[&NodeId::new(id)].clone();
    let a = Node { endpoint: endpoint("127.0.0.1", 7000), epoch: 3, primary: None };
    assert_eq!(node("a"), a);
    assert_eq!(node("b").primary, Some(NodeId::new("a")));
    assert_eq!(node("b").endpoint, endpoint("127.0.0.1", 7001));
    assert_eq!(node("c").epoch, 12);
}

#[test]
fn slots_that_are_on_their_way_belong_to_their_old_owner() {
    let report = read(&slots((0, 99), &[("h", 1, "a")]), NODES).unwrap();
    for partition in Partition::all() {
        let owner = (partition.slot() <= 99).then(|| NodeId::new("a"));
        assert_eq!(report.owners[partition.place()], owner);
    }
}

#[test]
fn hosts_come_in_many_forms() {
    for (host, expected) in [
        ("10.1.2.3", endpoint("10.1.2.3", 7001)),
        ("::2", endpoint("::2", 7001)),
        ("b.example", endpoint("b.example", 7001)),
        ("", endpoint("front.example", 7001)),
        ("null", endpoint("front.example", 7001)),
        ("?", endpoint("::1", 7001)),
    ] {
        let report = read(&slots((0, 99), &[(host, 7001, "b")]), NODES).unwrap();
        assert_eq!(report.nodes[&NodeId::new("b")].endpoint, expected, "{host}");
    }
    let report = read(&slots((0, 99), &[("?", 7001, "c")]), NODES).unwrap();
    assert_eq!(report.nodes[&NodeId::new("c")].endpoint, None);
}

#[test]
fn what_makes_no_sense_is_no_report() {
    let good = slots((0, 99), &[("h", 1, "a")]);
    assert!(read(&good, NODES).is_some());
    assert!(read(&good, "").is_none());
    assert!(read(&Value::Integer(1), NODES).is_none());
    assert!(read(&slots((0, 16384), &[("h", 1, "a")]), NODES).is_none());
    assert!(read(&slots((99, 0), &[("h", 1, "a")]), NODES).is_none());
    assert!(read(&value("*1\n*3\n:0\n:-1\n*3\n$1\nh\n:1\n$1\na\n"), NODES).is_none());
    assert!(
        Report::read(&good, &Value::Null, &Asked { host: "h", security: Security::Tls }).is_none()
    );
}
