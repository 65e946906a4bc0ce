//! Deltas by example, and against an applier written from the format's page.

use proptest::{collection::vec, prelude::*, sample::Index as Place};

use super::*;

#[test]
fn deltas_are_what_the_format_says() {
    for (origin, target, delta) in [
        (
            r#"{"symbol":"DUNL","price":101.25,"volume":1200,"open":true}"#,
            r#"{"symbol":"DUNL","price":101.75,"volume":1200,"open":true}"#,
            "v\nT@0,1:7S@U,1l_uO0;",
        ),
        ("a wader that flies in flocks", "a wader that flies in flocks", "S\nS@0,2TIvbb;"),
        (
            "a wader that flies in flocks",
            "Not a wader that flies in flocks",
            "W\n4:Not S@0,3gjms6;",
        ),
        (
            "Winters on mudflats. Breeds on moors and bogs.",
            "Breeds on moors and bogs. Winters on mudflats.",
            "j\nQ:Breeds on moors and bogs. K@0,1I4oKN;",
        ),
    ] {
        assert_eq!(create_text(origin, target).as_deref(), Some(delta), "{target}");
        assert_eq!(apply(origin.as_bytes(), delta.as_bytes()).as_deref(), Ok(target.as_bytes()));
    }
}

#[test]
fn a_delta_is_shorter_than_its_target_or_is_not_made() {
    for target in ["", "a", "a short text", "nothing of this was said before"] {
        assert_eq!(create_text("unlike", target), None, "{target}");
        assert_eq!(create_text("", target), None, "{target}");
    }
    let zeros = vec![0; BYTES_MAX + 1];
    assert!(create(&zeros[1..], &zeros[1..]).is_some());
    assert_eq!(create(&zeros, &zeros[1..]), None);
    assert_eq!(create(&zeros[1..], &zeros), None);
}

/// The bytes of é and è differ in their second byte only, those of the birds in their last.
#[test]
fn no_code_point_is_cut() {
    let long = "a body that is long enough for a delta ".repeat(2);
    for (old, new) in [("é", "è"), ("🐦", "🐧"), ("漢", "漣"), ("é", "é🐦è"), ("xé", "xè")]
    {
        for (origin, target) in [
            (format!("{long}{old}"), format!("{long}{new}")),
            (format!("{old}{long}"), format!("{new}{long}")),
            (format!("{long}{old}{long}"), format!("{long}{new}{long}")),
            (format!("{long}{old}x{old}{long}"), format!("{new}{long}{new}y{new}{long}{new}")),
        ] {
            let delta = create_text(&origin, &target).unwrap();
            assert_eq!(apply(origin.as_bytes(), delta.as_bytes()).unwrap(), target.as_bytes());
        }
    }
}

/// The unchanged parts of a list are found though they moved, and are told in little.
#[test]
fn a_few_changes_make_a_small_delta() {
    let row = |n: u32, value: u32| format!(r#"{{"id":{n},"name":"bird {n}","value":{value}}},"#);
    let origin: String = (0..500).map(|n| row(n, n * 7919 % 1000)).collect();
    let changed = |n: u32| if n % 50 == 7 { 1_234_567 } else { n * 7919 % 1000 };
    let target: String = (0..500).filter(|n| *n != 250).map(|n| row(n, changed(n))).collect();
    let delta = create_text(&origin, &target).unwrap();
    assert!(delta.len() < 400, "{} of {} bytes", delta.len(), target.len());
    assert_eq!(apply(origin.as_bytes(), delta.as_bytes()).unwrap(), target.as_bytes());
}

/// Every block is the same, then every block has many alike: neither makes more work per byte.
#[test]
fn repetition_makes_no_more_work() {
    let origin = vec![b'a'; BYTES_MAX];
    let mut target = origin.clone();
    target.iter_mut().step_by(37).for_each(|byte| *byte = b'b');
    for (origin, target) in [(&origin, &target), (&target, &origin)] {
        if let Some(delta) = create(origin, target) {
            assert_eq!(&apply(origin, &delta).unwrap(), target);
        }
    }
}

proptest! {
    #[test]
    fn applying_gives_the_target(
        (origin, target) in prop_oneof![
            edited(any::<u8>()),
            edited(0..3_u8),
            edited(0x7E..0x82_u8),
        ],
    ) {
        if let Some(delta) = create(&origin, &target) {
            prop_assert!(delta.len() < target.len());
            prop_assert_eq!(apply(&origin, &delta), Ok(target));
        }
    }

    #[test]
    fn a_delta_of_text_is_text(
        (origin, target) in prop_oneof![
            edited(any::<char>()),
            edited(proptest::sample::select(vec!['a', 'é', 'è', '漢', '漣', '🐦', '🐧'])),
        ],
    ) {
        let (origin, target) = (String::from_iter(origin), String::from_iter(target));
        if let Some(delta) = create_text(&origin, &target) {
            prop_assert!(delta.len() < target.len());
            prop_assert_eq!(apply(origin.as_bytes(), delta.as_bytes()), Ok(target.into_bytes()));
        }
    }
}

/// A payload and what a few replaced, moved and repeated parts make of it.
fn edited<T: std::fmt::Debug + Clone>(
    item: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = (Vec<T>, Vec<T>)> {
    let edit =
        (any::<Place>(), any::<Place>(), 0..60_usize, any::<Place>(), vec(item.clone(), 0..9));
    (vec(item, 0..300), vec(edit, 0..6)).prop_map(|(origin, edits)| {
        let mut target = origin.clone();
        for (at, from, count, until, new) in edits {
            let from = from.index(origin.len() + 1);
            let moved = &origin[from..(from + count).min(origin.len())];
            let at = at.index(target.len() + 1);
            let until = at + until.index(target.len() - at + 1).min(30);
            target.splice(at..until, [new.as_slice(), moved].concat());
        }
        (origin, target)
    })
}

/// Reads a delta as the format's page says, and takes nothing on trust.
fn apply(origin: &[u8], delta: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut rest = delta;
    let (size, end) = number(&mut rest)?;
    let mut target = Vec::new();
    if end != b'\n' {
        return Err("no size");
    }
    loop {
        match number(&mut rest)? {
            (count, b':') => {
                let (new, after) = rest.split_at_checked(count).ok_or("insert past the end")?;
                target.extend_from_slice(new);
                rest = after;
            }
            (count, b'@') => {
                let (from, end) = number(&mut rest)?;
                if end != b',' {
                    return Err("a copy ends with a comma");
                }
                target
                    .extend_from_slice(origin.get(from..from + count).ok_or("copy past the end")?);
            }
            (sum, b';') => {
                let whole = rest.is_empty() && target.len() == size;
                let right = u32::try_from(sum) == Ok(checksum(&target));
                return if whole && right { Ok(target) } else { Err("size or checksum differ") };
            }
            _ => return Err("no such command"),
        }
    }
}

/// A number and the byte that ends it.
fn number(rest: &mut &[u8]) -> Result<(usize, u8), &'static str> {
    let mut number = 0;
    loop {
        let (byte, after) = rest.split_first().ok_or("cut off")?;
        *rest = after;
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A' + 10,
            b'_' => 36,
            b'a'..=b'z' => byte - b'a' + 37,
            b'~' => 63,
            end => return Ok((number, *end)),
        };
        number = number << 6 | usize::from(digit);
    }
}
