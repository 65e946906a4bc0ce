//! Every comparison by example, the rules of a filter's shape, and the laws of logic.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What is published: these tags and no other.
fn tags() -> BTreeMap<String, String> {
    let tags = [("ticker", "AAPL"), ("price", "101.50"), ("source", "NASDAQ"), ("empty", "")];
    tags.map(|(key, value)| (key.into(), value.into())).into()
}

fn leaf(key: &str, cmp: &str, val: &str) -> FilterNode {
    FilterNode { key: key.into(), cmp: cmp.into(), val: val.into(), ..FilterNode::default() }
}

fn list(key: &str, cmp: &str, vals: &[&str]) -> FilterNode {
    let vals = vals.iter().copied().map(String::from).collect();
    FilterNode { vals, ..leaf(key, cmp, "") }
}

fn join(op: &str, nodes: Vec<FilterNode>) -> FilterNode {
    FilterNode { op: op.into(), nodes, ..FilterNode::default() }
}

fn wanted(node: FilterNode) -> bool {
    let tags = tags();
    let filter = TagsFilter::new(node).unwrap();
    filter.matches(|key| tags.get(key).map(String::as_str))
}

#[test]
fn every_comparison_does_as_it_is_called() {
    for (key, cmp, val, expected) in [
        ("ticker", "eq", "AAPL", true),
        ("ticker", "eq", "aapl", false),
        ("none", "eq", "AAPL", false),
        ("ticker", "neq", "AAPL", false),
        ("ticker", "neq", "MSFT", true),
        ("none", "neq", "AAPL", true),
        ("ticker", "ex", "", true),
        ("empty", "ex", "", true),
        ("none", "ex", "", false),
        ("ticker", "nex", "", false),
        ("none", "nex", "", true),
        ("ticker", "sw", "AA", true),
        ("ticker", "sw", "PL", false),
        ("none", "sw", "AA", false),
        ("ticker", "ew", "PL", true),
        ("ticker", "ew", "AA", false),
        ("none", "ew", "PL", false),
        ("ticker", "ct", "AP", true),
        ("ticker", "ct", "PA", false),
        ("none", "ct", "AP", false),
        ("price", "lt", "101.5", false),
        ("price", "lt", "101.51", true),
        ("price", "lte", "101.5", true),
        ("price", "lte", "101.4", false),
        ("price", "gt", "101.5", false),
        ("price", "gt", "99", true),
        ("price", "gte", "101.5", true),
        ("price", "gte", "1000", false),
        ("none", "lt", "1", false),
        ("ticker", "gte", "1", false),
        ("empty", "lte", "1", false),
    ] {
        assert_eq!(wanted(leaf(key, cmp, val)), expected, "{key} {cmp} {val}");
    }
    for (key, cmp, vals, expected) in [
        ("ticker", "in", &["MSFT", "AAPL", "AAPL"], true),
        ("ticker", "in", &["MSFT", "GOOG", "AMZN"], false),
        ("none", "in", &["", "a", "b"], false),
        ("empty", "in", &["", "a", "b"], true),
        ("ticker", "nin", &["MSFT", "AAPL", "AMZN"], false),
        ("ticker", "nin", &["MSFT", "GOOG", "AMZN"], true),
        ("none", "nin", &["", "a", "b"], true),
    ] {
        assert_eq!(wanted(list(key, cmp, vals)), expected, "{key} {cmp} {vals:?}");
    }
}

#[test]
fn nodes_join_and_negate() {
    let (yes, no) = (leaf("ticker", "eq", "AAPL"), leaf("ticker", "eq", "MSFT"));
    for (op, nodes, expected) in [
        ("and", vec![&yes, &yes], true),
        ("and", vec![&yes, &no], false),
        ("or", vec![&no, &yes], true),
        ("or", vec![&no], false),
        ("not", vec![&no], true),
        ("not", vec![&yes], false),
    ] {
        let nodes = nodes.into_iter().cloned().collect();
        assert_eq!(wanted(join(op, nodes)), expected, "{op}");
    }
    assert!(wanted(FilterNode { op: "leaf".into(), ..yes }));
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let fine = || leaf("k", "ex", "");
    let with_op = |op: &str| FilterNode { op: op.into(), ..fine() };
    let with_vals = |node: FilterNode| FilterNode { vals: vec!["v".into()], ..node };
    for (node, error) in [
        (with_op("xor"), InvalidFilter::UnknownOp),
        (FilterNode::default(), InvalidFilter::UnknownCmp),
        (leaf("k", "like", "v"), InvalidFilter::UnknownCmp),
        (leaf("", "eq", "v"), InvalidFilter::NoKey),
        (leaf("k", "eq", ""), InvalidFilter::WrongValues),
        (leaf("k", "sw", ""), InvalidFilter::WrongValues),
        (leaf("k", "ex", "v"), InvalidFilter::WrongValues),
        (with_vals(leaf("k", "eq", "v")), InvalidFilter::WrongValues),
        (with_vals(leaf("k", "nex", "")), InvalidFilter::WrongValues),
        (with_vals(leaf("k", "in", "v")), InvalidFilter::WrongValues),
        (list("k", "nin", &[]), InvalidFilter::WrongValues),
        (leaf("k", "gt", "much"), InvalidFilter::NotANumber),
        (leaf("k", "lte", ""), InvalidFilter::NotANumber),
        (join("and", vec![]), InvalidFilter::WrongNodes),
        (join("or", vec![]), InvalidFilter::WrongNodes),
        (join("not", vec![]), InvalidFilter::WrongNodes),
        (join("not", vec![fine(), fine()]), InvalidFilter::WrongNodes),
        (join("or", vec![fine(), leaf("", "ex", "")]), InvalidFilter::NoKey),
    ] {
        assert_eq!(TagsFilter::new(node.clone()), Err(error), "{node:?}");
    }
}

#[test]
fn depth_nodes_and_values_are_bounded() {
    let nested = |levels| (1..levels).fold(leaf("k", "ex", ""), |node, _| join("not", vec![node]));
    assert!(TagsFilter::new(nested(TagsFilter::DEPTH_MAX)).is_ok());
    let too_deep = TagsFilter::new(nested(TagsFilter::DEPTH_MAX + 1));
    assert_eq!(too_deep, Err(InvalidFilter::TooDeep));

    let wide = |nodes| join("or", vec![leaf("k", "ex", ""); nodes - 1]);
    assert!(TagsFilter::new(wide(TagsFilter::NODES_MAX)).is_ok());
    let too_many = TagsFilter::new(wide(TagsFilter::NODES_MAX + 1));
    assert_eq!(too_many, Err(InvalidFilter::TooManyNodes));

    let long =
        |values| join("or", vec![list("k", "in", &["v"]), list("k", "in", &vec!["v"; values])]);
    assert!(TagsFilter::new(long(TagsFilter::VALUES_MAX - 1)).is_ok());
    let too_long = TagsFilter::new(long(TagsFilter::VALUES_MAX));
    assert_eq!(too_long, Err(InvalidFilter::TooManyValues));
}

#[test]
fn filters_that_say_the_same_list_are_equal() {
    let filter = |vals| TagsFilter::new(list("k", "in", vals)).unwrap();
    assert_eq!(filter(&["a", "b"]), filter(&["b", "a", "b"]));
    assert_ne!(filter(&["a", "b"]), filter(&["a"]));
}

proptest! {
    #[test]
    fn logic_is_lawful(left in tree(), right in tree()) {
        let not = |node: &FilterNode| join("not", vec![node.clone()]);
        let both = |op| join(op, vec![left.clone(), right.clone()]);
        let neither = |op| join(op, vec![not(&left), not(&right)]);
        prop_assert_eq!(wanted(not(&left)), !wanted(left.clone()));
        prop_assert_eq!(wanted(both("and")), wanted(left.clone()) && wanted(right.clone()));
        prop_assert_eq!(wanted(not(&both("and"))), wanted(neither("or")));
        prop_assert_eq!(wanted(not(&both("or"))), wanted(neither("and")));
    }

    #[test]
    fn opposites_differ_always(key in key(), val in value(), vals in vals()) {
        prop_assert_ne!(wanted(leaf(&key, "eq", &val)), wanted(leaf(&key, "neq", &val)));
        prop_assert_ne!(wanted(leaf(&key, "ex", "")), wanted(leaf(&key, "nex", "")));
        let all = |cmp| FilterNode { vals: vals.clone(), ..leaf(&key, cmp, "") };
        prop_assert_ne!(wanted(all("in")), wanted(all("nin")));
    }
}

fn key() -> impl Strategy<Value = String> {
    "ticker|price|source|empty|none"
}

fn value() -> impl Strategy<Value = String> {
    "AAPL|AA|L|NASDAQ|101|101.50|-3"
}

fn vals() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(value(), 1..4)
}

/// A filter of up to three levels, so that it can be negated and joined.
fn tree() -> impl Strategy<Value = FilterNode> {
    let comparison = prop_oneof![
        (key(), "eq|neq|sw|ew|ct", value()).prop_map(|(key, cmp, val)| leaf(&key, &cmp, &val)),
        (key(), "lt|lte|gt|gte", "10[0-2](\\.5)?")
            .prop_map(|(key, cmp, val)| leaf(&key, &cmp, &val)),
        (key(), "in|nin", vals())
            .prop_map(|(key, cmp, vals)| FilterNode { vals, ..leaf(&key, &cmp, "") }),
    ];
    comparison.prop_recursive(2, 9, 3, |inner| {
        ("and|or", proptest::collection::vec(inner, 1..4)).prop_map(|(op, nodes)| join(&op, nodes))
    })
}
