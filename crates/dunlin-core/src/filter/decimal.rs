//! Decimal numbers as text, of any length and compared exactly.

use std::cmp::Ordering;

/// Whether `text` is a decimal number.
pub(super) fn is_number(text: &str) -> bool {
    Decimal::parse(text).is_some()
}

/// How two decimal numbers compare; none if one is no number.
pub(super) fn compare(left: &str, right: &str) -> Option<Ordering> {
    Some(Decimal::parse(left)?.cmp(&Decimal::parse(right)?))
}

/// A decimal number of any length, as text that holds no needless zero.
#[derive(PartialEq, Eq)]
struct Decimal<'t> {
    negative: bool,
    whole: &'t str,
    fraction: &'t str,
}

impl<'t> Decimal<'t> {
    /// Parses a sign or none, digits, and a point with digits or none.
    fn parse(text: &'t str) -> Option<Self> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let zero = whole.is_empty() && fraction.is_empty();
        Some(Self { negative: text.starts_with('-') && !zero, whole, fraction })
    }

    /// What orders numbers of one sign by their distance from zero.
    fn distance(&self) -> (usize, &str, &str) {
        (self.whole.len(), self.whole, self.fraction)
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.distance().cmp(&other.distance()),
            (true, true) => other.distance().cmp(&self.distance()),
            (negative, _) => {
                if negative {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
        }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_a_sign_digits_and_a_fraction() {
        for number in ["0", "-0", "+7", "007", "1.50", "-12.0", "18446744073709551617", "0.1"] {
            assert!(is_number(number), "{number:?}");
        }
        let others =
            ["", "-", "+-1", "1.", ".5", "1.2.3", "1e5", " 1", "1,5", "0x1", "NaN", "\u{0663}"];
        for other in others {
            assert!(!is_number(other), "{other:?}");
            assert_eq!(compare(other, "1"), None, "{other:?}");
            assert_eq!(compare("1", other), None, "{other:?}");
        }
    }

    #[test]
    fn comparison_is_exact() {
        let ascending = [
            "-18446744073709551617",
            "-18446744073709551616.5",
            "-1.5",
            "-1.05",
            "0",
            "0.000000000000000000000000001",
            "0.1",
            "0.11",
            "0.2",
            "9",
            "10",
            "9007199254740992",
            "9007199254740993",
        ];
        for (place, left) in ascending.iter().enumerate() {
            for (other, right) in ascending.iter().enumerate() {
                assert_eq!(compare(left, right), Some(place.cmp(&other)), "{left} {right}");
            }
        }
        for (left, right) in [("-0", "0.00"), ("+1", "01.0"), ("-1.50", "-01.5")] {
            assert_eq!(compare(left, right), Some(Ordering::Equal), "{left} {right}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_integers(left: i64, right: i64, zeros in 0..3_usize) {
            let thousandths = |number: i64| {
                let (sign, number) = (if number < 0 { "-" } else { "" }, number.unsigned_abs());
                let zeros = "0".repeat(zeros);
                format!("{sign}{zeros}{}.{:03}{zeros}", number / 1000, number % 1000)
            };
            let compared = compare(&thousandths(left), &thousandths(right));
            prop_assert_eq!(compared, Some(left.cmp(&right)));
        }
    }
}
