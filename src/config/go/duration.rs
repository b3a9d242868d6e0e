//! Durations as Go's `time.ParseDuration` reads them and `Duration.String` prints them.

use std::fmt;

use super::quote::quote;

/// A signed count of nanoseconds, displayed as Go does: `1m30s`, `1.5ms`, `0s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct GoDuration(pub(in crate::config) i64);

/// The magnitude of the smallest duration, whose negation does not fit.
const LARGEST_MAGNITUDE: u64 = 1 << 63;

impl GoDuration {
    /// What `text` says: an optional sign, then numbers with an optional fraction and a unit of `ns us µs ms s m h`.
    /// `0` needs no unit. The error is Go's.
    pub(in crate::config) fn parse(text: &str) -> Result<Self, String> {
        let invalid = || format!("time: invalid duration {}", quote(text));
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let (whole, after) = split_digits(rest);
            let (fraction, after) = after.strip_prefix('.').map_or(("", after), split_digits);
            if whole.is_empty() && fraction.is_empty() {
                return Err(invalid());
            }
            let unit_end = after
                .find(|character: char| character == '.' || character.is_ascii_digit())
                .unwrap_or(after.len());
            let (name, after) = after.split_at(unit_end);
            if name.is_empty() {
                return Err(format!("time: missing unit in duration {}", quote(text)));
            }
            let Some(unit) = nanoseconds(name) else {
                return Err(format!(
                    "time: unknown unit {} in duration {}",
                    quote(name),
                    quote(text)
                ));
            };
            total = magnitude(whole, fraction, unit)
                .and_then(|part| total.checked_add(part))
                .filter(|&total| total <= LARGEST_MAGNITUDE)
                .ok_or_else(invalid)?;
            rest = after;
        }
        if negative {
            Ok(Self(0i64.wrapping_sub_unsigned(total)))
        } else {
            i64::try_from(total).map(Self).map_err(|_| invalid())
        }
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

fn nanoseconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        // The micro sign and the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `whole.fraction` times `unit`; `None` where it is past what Go counts with.
fn magnitude(whole: &str, fraction: &str, unit: u64) -> Option<u64> {
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    whole
        .checked_mul(unit)?
        .checked_add(fraction_of(fraction, unit))
        .filter(|&total| total <= LARGEST_MAGNITUDE)
}

/// Floating point, because Go's is: what it rounds, this rounds.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let (mut value, mut scale) = (0u64, 1f64);
    for digit in digits.bytes() {
        // Digits that no longer fit are below a nanosecond, and dropped.
        match value
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(u64::from(digit - b'0')))
            .filter(|&longer| longer <= LARGEST_MAGNITUDE)
        {
            Some(longer) => value = longer,
            None => break,
        }
        scale *= 10.0;
    }
    (value as f64 * (unit as f64 / scale)) as u64
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let total = self.0.unsigned_abs();
        let (below, unit, name) = match total {
            0 => return f.write_str("0s"),
            1..1_000 => (total, 1, "ns"),
            1_000..1_000_000 => (total, 1_000, "µs"),
            1_000_000..1_000_000_000 => (total, 1_000_000, "ms"),
            _ => {
                let minutes = total / 60_000_000_000;
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                (total % 60_000_000_000, 1_000_000_000, "s")
            }
        };
        write!(f, "{}", below / unit)?;
        let remainder = below % unit;
        if remainder > 0 {
            // `unit` is a power of ten: one digit for each of its zeros.
            let width = usize::try_from(unit.ilog10()).unwrap_or(0);
            let digits = format!("{remainder:0width$}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What go1.19 answers.
    #[test]
    fn durations_are_read_and_printed_as_go_does() {
        for (text, nanoseconds, printed) in [
            ("0", 0, "0s"),
            ("+0", 0, "0s"),
            ("-0", 0, "0s"),
            ("0s", 0, "0s"),
            ("3s", 3_000_000_000, "3s"),
            ("-3s", -3_000_000_000, "-3s"),
            ("+3s", 3_000_000_000, "3s"),
            ("300ms", 300_000_000, "300ms"),
            ("10us", 10_000, "10µs"),
            ("1\u{b5}s", 1_000, "1\u{b5}s"),
            ("1\u{3bc}s", 1_000, "1\u{b5}s"),
            ("1500us", 1_500_000, "1.5ms"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            ("-1.5h", -5_400_000_000_000, "-1h30m0s"),
            (".5s", 500_000_000, "500ms"),
            ("5.s", 5_000_000_000, "5s"),
            ("0.5ns", 0, "0s"),
            ("1m30s", 90_000_000_000, "1m30s"),
            ("1h1m1s1ms1us1ns", 3_661_001_001_001, "1h1m1.001001001s"),
            ("0.3333333333333333333h", 1_200_000_000_000, "20m0s"),
            ("0.9223372036854775807h", 3_320_413_933_267, "55m20.413933267s"),
            ("1.0000000000000000000000000001s", 1_000_000_000, "1s"),
            ("9223372036854775807ns", i64::MAX, "2562047h47m16.854775807s"),
            ("-9223372036854775808ns", i64::MIN, "-2562047h47m16.854775808s"),
            ("2562047h47m16.854775807s", i64::MAX, "2562047h47m16.854775807s"),
        ] {
            let duration = GoDuration::parse(text);
            assert_eq!(duration, Ok(GoDuration(nanoseconds)), "{text}");
            assert_eq!(GoDuration(nanoseconds).to_string(), printed, "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused_in_its_words() {
        for (text, message) in [
            ("", r#"time: invalid duration """#),
            ("+", r#"time: invalid duration "+""#),
            (".", r#"time: invalid duration ".""#),
            (".s", r#"time: invalid duration ".s""#),
            ("s", r#"time: invalid duration "s""#),
            (" 1s", r#"time: invalid duration " 1s""#),
            ("1", r#"time: missing unit in duration "1""#),
            ("1.2.3s", r#"time: missing unit in duration "1.2.3s""#),
            ("1d", r#"time: unknown unit "d" in duration "1d""#),
            ("1 s", r#"time: unknown unit " s" in duration "1 s""#),
            ("1S", r#"time: unknown unit "S" in duration "1S""#),
            ("1s-1s", r#"time: unknown unit "s-" in duration "1s-1s""#),
            ("1e3s", r#"time: unknown unit "e" in duration "1e3s""#),
            (
                "9223372036854775808ns",
                r#"time: invalid duration "9223372036854775808ns""#,
            ),
            (
                "99999999999999999999s",
                r#"time: invalid duration "99999999999999999999s""#,
            ),
            (
                "2562047h47m16.854775808s",
                r#"time: invalid duration "2562047h47m16.854775808s""#,
            ),
        ] {
            assert_eq!(GoDuration::parse(text), Err(message.into()), "{text}");
        }
    }
}
