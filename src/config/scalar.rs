//! What an unquoted YAML scalar means to the YAML library of Kubernetes, which follows YAML 1.1: `on` is a boolean and
//! `0x1F` a number, so neither can be a name. Strings in quotes never come here.

/// The type that a plain scalar resolves to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Meaning {
    /// Nothing, `~`, or `null`.
    Null,
    /// `true`, `off`, `y` and the like.
    Boolean,
    /// A number that is whole, as `1`, `0b11` and `1e3` are. One past 64 bits is as good as any other such.
    Integer(i64),
    /// Any other number.
    Float,
    /// Anything else.
    Text,
}

/// What `plain` means in YAML.
pub(super) fn resolve(plain: &str) -> Meaning {
    match plain {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" | "n" | "N" | "no" | "No"
        | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Meaning::Boolean,
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => return Meaning::Float,
        _ => {}
    }
    if plain.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-')) {
        // Underscores may group digits anywhere after the first character.
        number(&plain.replace('_', ""))
    } else if plain.starts_with('.') {
        number(plain)
    } else {
        Meaning::Text
    }
}

/// What `plain`, anything but a string, means in JSON: there `1.0` is no integer.
pub(super) fn resolve_json(plain: &str) -> Meaning {
    match plain {
        "null" => Meaning::Null,
        "true" | "false" => Meaning::Boolean,
        _ => plain.parse().map_or(Meaning::Float, Meaning::Integer),
    }
}

fn number(text: &str) -> Meaning {
    if let Some(integer) = integer(text) {
        return i64::try_from(integer).map_or(Meaning::Float, Meaning::Integer);
    }
    match text.parse::<f64>() {
        // A number too large for a float stays text.
        Ok(float) if is_decimal(text) && float.is_finite() => whole(float),
        _ => Meaning::Text,
    }
}

/// As Go's `strconv.ParseInt` with base 0: a prefix tells the base, and a leading zero alone says octal.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (digits.get(2..)?, 16),
        [b'0', b'o' | b'O', ..] => (digits.get(2..)?, 8),
        [b'0', b'b' | b'B', ..] => (digits.get(2..)?, 2),
        [b'0', _, ..] => (digits.get(1..)?, 8),
        _ => (digits, 10),
    };
    // A second sign is no digit, though `from_str_radix` takes it.
    if !digits.starts_with(|first: char| first.is_digit(radix)) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    Some(if negative { -magnitude } else { magnitude })
}

/// Whether `text` is `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, the only floats that YAML 1.1 code in Go
/// knows.
fn is_decimal(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = |text: &str| text.strip_prefix(['-', '+']).map_or(text.to_owned(), str::to_owned);
    let text = unsigned(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text.as_str(), None),
    };
    let mantissa_holds = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    mantissa_holds && exponent.is_none_or(|exponent| digits(&unsigned(exponent)))
}

/// A float that is whole reaches Kubernetes without its point, as YAML becomes JSON on the way.
#[allow(clippy::cast_possible_truncation)]
fn whole(float: f64) -> Meaning {
    // Every field that takes a number has 32 bits; up to 2^53 a float is exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if float.trunc().total_cmp(&float).is_eq() && float.abs() <= EXACT {
        Meaning::Integer(float as i64)
    } else {
        Meaning::Float
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What sigs.k8s.io/yaml makes of each.
    #[test]
    fn plain_scalars_mean_what_they_mean_to_kubernetes() {
        use Meaning::{Boolean, Float, Integer, Null, Text};
        for (plain, meaning) in [
            ("", Null),
            ("~", Null),
            ("null", Null),
            ("nULL", Text),
            ("y", Boolean),
            ("N", Boolean),
            ("on", Boolean),
            ("Off", Boolean),
            ("yes", Boolean),
            ("yES", Text),
            ("True", Boolean),
            ("tRUE", Text),
            ("123", Integer(123)),
            ("+1", Integer(1)),
            ("-1", Integer(-1)),
            ("-_1", Integer(-1)),
            ("0x1F", Integer(31)),
            ("0x_1", Integer(1)),
            ("0x", Text),
            ("017", Integer(15)),
            ("0o17", Integer(15)),
            ("0o9", Text),
            ("08", Integer(8)),
            ("0_8", Integer(8)),
            ("0b11", Integer(3)),
            ("-0b11", Integer(-3)),
            ("0b", Text),
            ("1_000", Integer(1000)),
            ("1_", Integer(1)),
            ("_1", Text),
            ("+", Text),
            ("-", Text),
            ("+-1", Text),
            ("0x+1", Text),
            ("99999999999999999999", Float),
            ("18446744073709551615", Float),
            ("12e3", Integer(12_000)),
            ("1e+3", Integer(1000)),
            ("1.0", Integer(1)),
            ("1.", Integer(1)),
            ("0.1e1", Integer(1)),
            ("-.5", Float),
            (".5", Float),
            ("._5", Text),
            (".e1", Text),
            (".", Text),
            ("+12_3.5", Float),
            ("1e400", Text),
            (".inf", Float),
            ("-.INF", Float),
            (".nan", Float),
            ("2001-01-01", Text),
            ("1:30", Text),
            ("1.20.2", Text),
            ("=", Text),
            ("secrets", Text),
        ] {
            assert_eq!(resolve(plain), meaning, "{plain:?}");
        }
    }

    #[test]
    fn json_numbers_are_integers_only_where_they_look_it() {
        assert_eq!(resolve_json("10"), Meaning::Integer(10));
        assert_eq!(resolve_json("-0"), Meaning::Integer(0));
        for plain in ["1.0", "1e3", "99999999999999999999"] {
            assert_eq!(resolve_json(plain), Meaning::Float, "{plain}");
        }
        assert_eq!(resolve_json("null"), Meaning::Null);
        assert_eq!(resolve_json("false"), Meaning::Boolean);
    }
}
