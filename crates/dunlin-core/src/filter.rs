//! Tags filters: which publications of a channel a subscriber wants, by their tags.

mod decimal;

use std::cmp::Ordering;

use crate::filter::decimal::{compare, is_number};

/// A filter as it is asked for: a tree of comparisons. A codec fills it without judging it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilterNode {
    /// What the node is: `""` or `leaf` for a comparison, `and`, `or` or `not`.
    pub op: String,
    /// The tag that a comparison looks at.
    pub key: String,
    /// How: `eq`, `neq`, `in`, `nin`, `ex`, `nex`, `sw`, `ew`, `ct`, `lt`, `lte`, `gt` or `gte`.
    pub cmp: String,
    /// What to compare with; for `in`, `nin`, `ex` and `nex` it is empty.
    pub val: String,
    /// What `in` and `nin` compare with; for all others it is empty.
    pub vals: Vec<String>,
    /// The nodes that `and` and `or` join and the one that `not` negates.
    pub nodes: Vec<Self>,
}

/// A valid filter. Subscribers whose filters are equal want the same publications.
///
/// A tag that a publication does not have equals nothing: `neq`, `nin` and `nex` hold for it, no
/// other comparison does. `lt`, `lte`, `gt` and `gte` compare decimal numbers of any length
/// exactly, and do not hold for a tag that is no number; there are no exponents.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TagsFilter(Condition);

/// Why a [`FilterNode`] is no filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// Nested too deep.
    #[error("a filter is at most {} levels deep", TagsFilter::DEPTH_MAX)]
    TooDeep,
    /// Too many nodes.
    #[error("a filter has at most {} nodes", TagsFilter::NODES_MAX)]
    TooManyNodes,
    /// Too many values.
    #[error("a filter has at most {} values in its lists", TagsFilter::VALUES_MAX)]
    TooManyValues,
    /// An `op` that does not exist.
    #[error("the op of a filter node is leaf, and, or or not")]
    UnknownOp,
    /// A `cmp` that does not exist.
    #[error(
        "the cmp of a filter node is eq, neq, in, nin, ex, nex, sw, ew, ct, lt, lte, gt or gte"
    )]
    UnknownCmp,
    /// A comparison of no tag.
    #[error("a comparison names the key of a tag")]
    NoKey,
    /// `val` or `vals` missing, or there though `cmp` does not take it.
    #[error("in and nin take vals, ex and nex take nothing, all other comparisons take val")]
    WrongValues,
    /// The bound of a numeric comparison is no number.
    #[error("lt, lte, gt and gte compare with a decimal number")]
    NotANumber,
    /// `and` or `or` of nothing, or `not` of none or several.
    #[error("and and or join one node or more, not negates one")]
    WrongNodes,
}

impl TagsFilter {
    /// How deep a filter may be nested; one comparison alone is one level.
    pub const DEPTH_MAX: usize = 8;

    /// The most nodes a filter may have.
    pub const NODES_MAX: usize = 64;

    /// The most values the lists of `in` and `nin` may have in all.
    pub const VALUES_MAX: usize = 1024;

    /// Judges `node`.
    ///
    /// # Errors
    /// [`InvalidFilter`] for the first rule it breaks.
    pub fn new(node: FilterNode) -> Result<Self, InvalidFilter> {
        let mut room = Room { nodes: Self::NODES_MAX, values: Self::VALUES_MAX };
        room.condition(node, Self::DEPTH_MAX).map(Self)
    }

    /// Whether a publication is wanted whose tags `tag` looks up.
    pub fn matches<'t>(&self, tag: impl Fn(&str) -> Option<&'t str>) -> bool {
        self.0.holds(&tag)
    }
}

/// What must hold for the tags of a publication.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Condition {
    Compare(Box<str>, Comparison),
    All(Box<[Self]>),
    Any(Box<[Self]>),
    Not(Box<Self>),
}

/// What must hold for one tag. A negated comparison is the [`Condition::Not`] of its opposite.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Comparison {
    Exists,
    Equals(Box<str>),
    /// Sorted, without repeats.
    OneOf(Box<[String]>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    LessThan(Box<str>),
    AtMost(Box<str>),
    MoreThan(Box<str>),
    AtLeast(Box<str>),
}

impl Condition {
    fn holds<'t>(&self, tag: &impl Fn(&str) -> Option<&'t str>) -> bool {
        match self {
            Self::Compare(key, comparison) => tag(key).is_some_and(|tag| comparison.holds(tag)),
            Self::All(conditions) => conditions.iter().all(|condition| condition.holds(tag)),
            Self::Any(conditions) => conditions.iter().any(|condition| condition.holds(tag)),
            Self::Not(condition) => !condition.holds(tag),
        }
    }
}

impl Comparison {
    fn holds(&self, tag: &str) -> bool {
        match self {
            Self::Exists => true,
            Self::Equals(value) => tag == &**value,
            Self::OneOf(values) => values.binary_search_by(|value| value.as_str().cmp(tag)).is_ok(),
            Self::StartsWith(start) => tag.starts_with(&**start),
            Self::EndsWith(end) => tag.ends_with(&**end),
            Self::Contains(part) => tag.contains(&**part),
            Self::LessThan(bound) => compare(tag, bound).is_some_and(Ordering::is_lt),
            Self::AtMost(bound) => compare(tag, bound).is_some_and(Ordering::is_le),
            Self::MoreThan(bound) => compare(tag, bound).is_some_and(Ordering::is_gt),
            Self::AtLeast(bound) => compare(tag, bound).is_some_and(Ordering::is_ge),
        }
    }
}

/// How much more a filter may hold.
struct Room {
    nodes: usize,
    values: usize,
}

impl Room {
    fn condition(&mut self, node: FilterNode, levels: usize) -> Result<Condition, InvalidFilter> {
        self.nodes = self.nodes.checked_sub(1).ok_or(InvalidFilter::TooManyNodes)?;
        let levels = levels.checked_sub(1).ok_or(InvalidFilter::TooDeep)?;
        match node.op.as_str() {
            "" | "leaf" => self.comparison(node),
            "and" => Ok(Condition::All(self.conditions(node.nodes, levels)?)),
            "or" => Ok(Condition::Any(self.conditions(node.nodes, levels)?)),
            "not" => {
                let [node] = <[_; 1]>::try_from(node.nodes).or(Err(InvalidFilter::WrongNodes))?;
                Ok(Condition::Not(Box::new(self.condition(node, levels)?)))
            }
            _ => Err(InvalidFilter::UnknownOp),
        }
    }

    fn conditions(
        &mut self,
        nodes: Vec<FilterNode>,
        levels: usize,
    ) -> Result<Box<[Condition]>, InvalidFilter> {
        if nodes.is_empty() {
            return Err(InvalidFilter::WrongNodes);
        }
        nodes.into_iter().map(|node| self.condition(node, levels)).collect()
    }

    fn comparison(&mut self, node: FilterNode) -> Result<Condition, InvalidFilter> {
        let FilterNode { key, cmp, val, mut vals, .. } = node;
        self.values = self.values.checked_sub(vals.len()).ok_or(InvalidFilter::TooManyValues)?;
        vals.sort_unstable();
        vals.dedup();
        let (takes_val, takes_vals) = match cmp.as_str() {
            "in" | "nin" => (false, true),
            "ex" | "nex" => (false, false),
            _ => (true, false),
        };
        let (has_val, has_vals) = (!val.is_empty(), !vals.is_empty());
        let val = val.into_boxed_str();
        let comparison = match cmp.as_str() {
            "ex" | "nex" => Comparison::Exists,
            "eq" | "neq" => Comparison::Equals(val),
            "in" | "nin" => Comparison::OneOf(vals.into()),
            "sw" => Comparison::StartsWith(val),
            "ew" => Comparison::EndsWith(val),
            "ct" => Comparison::Contains(val),
            "lt" => Comparison::LessThan(number(val)?),
            "lte" => Comparison::AtMost(number(val)?),
            "gt" => Comparison::MoreThan(number(val)?),
            "gte" => Comparison::AtLeast(number(val)?),
            _ => return Err(InvalidFilter::UnknownCmp),
        };
        if (takes_val, takes_vals) != (has_val, has_vals) {
            return Err(InvalidFilter::WrongValues);
        }
        if key.is_empty() {
            return Err(InvalidFilter::NoKey);
        }
        let condition = Condition::Compare(key.into(), comparison);
        let negated = matches!(cmp.as_str(), "neq" | "nin" | "nex");
        Ok(if negated { Condition::Not(Box::new(condition)) } else { condition })
    }
}

fn number(text: Box<str>) -> Result<Box<str>, InvalidFilter> {
    if is_number(&text) { Ok(text) } else { Err(InvalidFilter::NotANumber) }
}

#[cfg(test)]
mod tests;
