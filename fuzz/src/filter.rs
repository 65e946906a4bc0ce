//! Tags filters: what a client asks for is a filter or not, and a filter keeps to logic.

use dunlin_core::{
    command::Request,
    filter::{FilterNode, TagsFilter},
    publication::Encoding,
};
use dunlin_protocol::centrifuge::commands;

/// A filter has an opinion of all tags, its negation the other one, and joined with itself it stays
/// what it is.
///
/// Input: a line with a filter as it stands in a subscribe command, then tags, `name=value` on a
/// line.
pub fn filter(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let Some(node) = lines.next().and_then(read) else { return };
    let Ok(filter) = TagsFilter::new(node.clone()) else { return };
    assert_eq!(TagsFilter::new(node.clone()).as_ref(), Ok(&filter), "it is judged the same again");

    let tags: Vec<_> = lines.filter_map(|line| line.split_once('=')).collect();
    let tag = |name: &str| tags.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let matches = filter.matches(tag);
    let join = |op: &str, nodes: &[&FilterNode]| {
        let nodes = nodes.iter().map(|node| (*node).clone()).collect();
        let joined = FilterNode { op: op.to_owned(), nodes, ..FilterNode::default() };
        // It may be too deep or too large by now.
        TagsFilter::new(joined).map(|filter| filter.matches(tag))
    };
    for (op, nodes, expected) in [
        ("not", &[&node][..], !matches),
        ("and", &[&node], matches),
        ("or", &[&node], matches),
        ("and", &[&node, &node], matches),
        ("or", &[&node, &node], matches),
    ] {
        assert_eq!(join(op, nodes).unwrap_or(expected), expected, "{op} of {}", nodes.len());
    }
}

fn read(line: &str) -> Option<FilterNode> {
    let command = format!(r#"{{"id":1,"subscribe":{{"channel":"c","tf":{line}}}}}"#);
    let mut read = commands(Encoding::Json, command.as_bytes(), usize::MAX);
    match read.next()?.ok()?.request {
        Request::Subscribe(subscribe) => subscribe.filter,
        _ => None,
    }
}
