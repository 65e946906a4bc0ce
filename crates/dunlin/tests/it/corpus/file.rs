//! A file of the corpus: settings of its node, names, and cases, one on a line.

use std::{collections::BTreeSet, fs, path::Path};

use super::terms::{self, Call, Mistake, Names, Term};

/// All cases of one kind.
#[derive(Debug)]
pub(super) struct Corpus {
    /// Settings of the node that they are for.
    pub(super) settings: Vec<String>,
    pub(super) cases: Vec<Case>,
}

#[derive(Debug)]
pub(super) struct Case {
    /// Where it stands, for who looks for it.
    pub(super) place: String,
    pub(super) name: String,
    /// What is sent before, and answered well.
    pub(super) before: Vec<u8>,
    pub(super) input: Vec<u8>,
    /// Nothing more is sent behind the input.
    pub(super) ends: bool,
    pub(super) expected: Vec<Event>,
}

/// Something that is seen of the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) number: Option<u64>,
    /// What comes with it; none = whatever it is.
    pub(super) bytes: Option<Vec<u8>>,
}

impl Event {
    pub(super) fn new(name: &str, number: Option<u64>, bytes: Option<Vec<u8>>) -> Self {
        Self { name: name.to_owned(), number, bytes }
    }

    /// Whether this, which is expected, is that, which was seen.
    pub(super) fn is_met_by(&self, seen: &Self) -> bool {
        let says = |bytes: &Vec<u8>| {
            let seen = seen.bytes.as_deref().unwrap_or_default();
            match self.name.as_str() {
                // Of a page, a part will do.
                "status" => seen.windows(bytes.len()).any(|part| part == bytes),
                _ => seen == bytes,
            }
        };
        self.name == seen.name && self.number == seen.number && self.bytes.as_ref().is_none_or(says)
    }
}

/// The term that ends an input after which nothing more is sent.
const END: &str = "eof";

impl Corpus {
    pub(super) fn load(name: &str) -> Self {
        let file = format!("{name}.txt");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(&file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        Self::parse(&file, &text).unwrap_or_else(|mistake| panic!("{mistake}"))
    }

    pub(super) fn parse(file: &str, text: &str) -> Result<Self, Mistake> {
        let mut corpus = Self { settings: Vec::new(), cases: Vec::new() };
        let mut names = Names::new();
        let mut before = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, line) in text.lines().enumerate() {
            let place = format!("{file}:{}", index + 1);
            let wrong = |mistake: Mistake| format!("{place}: {mistake}");
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "" | "#" => {}
                "node" => corpus.settings.push(rest.to_owned()),
                "let" => {
                    let (name, meaning) = rest
                        .split_once(" = ")
                        .ok_or_else(|| wrong("expected let NAME = TERMS".to_owned()))?;
                    names.insert(name.to_owned(), terms::parse(meaning).map_err(wrong)?);
                }
                "before" => {
                    before = terms::parse(rest).map_err(wrong)?;
                }
                _ => {
                    let mut case = Case::parse(line, &before, &mut names).map_err(wrong)?;
                    if !seen.insert(case.name.clone()) {
                        return Err(format!("{place}: {} is the name of another case", case.name));
                    }
                    case.place = place;
                    corpus.cases.push(case);
                }
            }
        }
        Ok(corpus)
    }
}

impl Case {
    /// `name | input | what is expected`
    fn parse(line: &str, before: &[Term], names: &mut Names) -> Result<Self, Mistake> {
        let parts: Vec<_> = line.split(" | ").collect();
        let &[name, input, expected] = parts.as_slice() else {
            return Err("expected NAME | INPUT | EXPECTED".to_owned());
        };
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if name.is_empty() || !name.chars().all(is_part) {
            return Err(format!("{name:?} is no name"));
        }
        names.insert("case".to_owned(), vec![Term::Bytes(name.into())]);
        let mut input = terms::parse(input)?;
        let ends = matches!(input.last(), Some(Term::Call(call)) if call.name == END);
        if ends {
            input.pop();
        }
        let expected = terms::parse(expected)?.into_iter().map(|term| match term {
            Term::Call(call) => event(&call, names),
            other => Err(format!("{other:?} is nothing that can be seen")),
        });
        let expected: Vec<_> = expected.collect::<Result<_, _>>()?;
        if expected.is_empty() {
            return Err("what is expected?".to_owned());
        }
        Ok(Self {
            place: String::new(),
            name: name.to_owned(),
            before: terms::bytes(before, names)?,
            input: terms::bytes(&input, names)?,
            ends,
            expected,
        })
    }
}

fn event(call: &Call, names: &Names) -> Result<Event, Mistake> {
    let number = (!call.parameters.is_empty()).then(|| call.number(0)).transpose()?;
    let bytes = (!call.arguments.is_empty()).then(|| terms::bytes(&call.arguments, names));
    Ok(Event::new(&call.name, number, bytes.transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_settings_names_and_cases() {
        let text = "# words\n\nnode a.b=c\nlet greeting = 'hi'\n\
                    first | $greeting*2 | nothing\nbefore $greeting\n\
                    second/half | 00 eof | error:107 close:1002('why')\n";
        let corpus = Corpus::parse("some.txt", text).unwrap();
        assert_eq!(corpus.settings, ["a.b=c"]);
        let [first, second] = &corpus.cases[..] else { panic!("{corpus:?}") };
        assert_eq!(
            (&first.input[..], first.ends, &first.before[..]),
            (&b"hihi"[..], false, &b""[..])
        );
        assert_eq!(first.expected, [Event::new("nothing", None, None)]);
        assert_eq!(
            (&second.input[..], second.ends, &second.before[..]),
            (&b"\0"[..], true, &b"hi"[..])
        );
        let close = Event::new("close", Some(1002), Some(b"why".to_vec()));
        assert_eq!(second.expected, [Event::new("error", Some(107), None), close]);
        assert_eq!((second.name.as_str(), second.place.as_str()), ("second/half", "some.txt:7"));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, place) in [
            ("name | 00\n", "f.txt:1: "),
            ("\nname | 0 | nothing\n", "f.txt:2: "),
            ("name | 00 |  \n", "f.txt:1: "),
            ("name | 00 | 'text'\n", "f.txt:1: "),
            ("two words | 00 | nothing\n", "f.txt:1: "),
            ("name | $unknown | nothing\n", "f.txt:1: "),
            ("name | 00 | nothing\nname | 01 | nothing\n", "f.txt:2: "),
            ("let name\n", "f.txt:1: "),
        ] {
            let mistake = Corpus::parse("f.txt", text).unwrap_err();
            assert!(mistake.starts_with(place), "{text:?}: {mistake}");
        }
    }

    #[test]
    fn what_is_expected_may_say_less_than_what_is_seen() {
        let event = |number, bytes: Option<&str>| {
            Event::new("status", Some(number), bytes.map(|bytes| bytes.as_bytes().to_vec()))
        };
        let seen = event(400, Some("a whole page"));
        assert!(event(400, None).is_met_by(&seen));
        assert!(event(400, Some("whole")).is_met_by(&seen));
        assert!(!event(400, Some("half")).is_met_by(&seen));
        assert!(!event(404, None).is_met_by(&seen));
        let close = |bytes: &str| Event::new("close", Some(1002), Some(bytes.as_bytes().to_vec()));
        assert!(!close("proto").is_met_by(&close("protocol error")));
    }
}
