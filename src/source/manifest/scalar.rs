//! The type of an unquoted YAML scalar, as kubectl reads it (sigs.k8s.io/yaml, which is YAML 1.1, not 1.2).

/// The type of a scalar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar {
    /// Null.
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number, finite or not.
    Float(f64),
    /// Anything else.
    Text,
}

/// Reads an unquoted scalar.
pub(super) fn plain(text: &str) -> Scalar {
    let Some(first) = text.bytes().next() else { return Scalar::Null };
    match first {
        b'0'..=b'9' | b'+' | b'-' | b'.' => number(text).unwrap_or(Scalar::Text),
        b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' | b'~' => word(text),
        _ => Scalar::Text,
    }
}

fn word(text: &str) -> Scalar {
    match text {
        "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Scalar::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Scalar::Bool(false)
        }
        _ => Scalar::Text,
    }
}

/// Reads a number, as an `!!int` or `!!float` tag demands it.
pub(super) fn number(text: &str) -> Option<Scalar> {
    match text {
        ".nan" | ".NaN" | ".NAN" => return Some(Scalar::Float(f64::NAN)),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Some(Scalar::Float(f64::INFINITY)),
        "-.inf" | "-.Inf" | "-.INF" => return Some(Scalar::Float(f64::NEG_INFINITY)),
        _ => {}
    }
    if !text.contains('_') {
        return digits(text);
    }
    digits(&text.replace('_', ""))
}

fn digits(text: &str) -> Option<Scalar> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if let Some(int) = integer(negative, unsigned) {
        return Some(int);
    }
    if !is_decimal(unsigned) {
        return None;
    }
    text.parse().ok().filter(|float: &f64| float.is_finite()).map(Scalar::Float)
}

/// An integer in Go's notation: `0x`, `0o` or a bare leading 0, and `0b` choose another base than 10.
fn integer(negative: bool, unsigned: &str) -> Option<Scalar> {
    let (radix, digits) = match unsigned.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, unsigned.get(2..)?),
        [b'0', b'o' | b'O', ..] => (8, unsigned.get(2..)?),
        [b'0', b'b' | b'B', ..] => (2, unsigned.get(2..)?),
        [b'0', _, ..] => (8, unsigned.get(1..)?),
        _ => (10, unsigned),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(digits, radix).ok()?);
    let value = if negative { -magnitude } else { magnitude };
    match i64::try_from(value) {
        Ok(value) => Some(Scalar::Int(value)),
        Err(_) if negative => None,
        // Exactness does not matter: no field that is read here takes a number this large.
        Err(_) => format!("{value}").parse().ok().map(Scalar::Float),
    }
}

/// `1.`, `.5`, `1.5e3`, `1e-3`.
fn is_decimal(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_holds = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && is_digits(exponent)
    });
    is_digits(whole) && is_digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent_holds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_yaml_1_1_are_booleans() {
        for text in ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"] {
            assert_eq!(plain(text), Scalar::Bool(true), "{text}");
        }
        for text in ["n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"] {
            assert_eq!(plain(text), Scalar::Bool(false), "{text}");
        }
        for text in ["yES", "tRUE", "oN", "yess", "onward"] {
            assert_eq!(plain(text), Scalar::Text, "{text}");
        }
    }

    #[test]
    fn nothing_can_be_written_in_five_ways() {
        for text in ["", "~", "null", "Null", "NULL"] {
            assert_eq!(plain(text), Scalar::Null, "{text}");
        }
    }

    #[test]
    fn integers_are_read_as_go_reads_them() {
        for (text, value) in [
            ("0", 0),
            ("80", 80),
            ("-1", -1),
            ("+7", 7),
            ("010", 8),
            ("0o17", 15),
            ("0x1F", 31),
            ("-0b101", -5),
            ("1_000", 1000),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(plain(text), Scalar::Int(value), "{text}");
        }
    }

    #[test]
    fn other_numbers_are_floats() {
        for (text, value) in [
            ("1.5", 1.5),
            ("1.", 1.0),
            (".5", 0.5),
            ("-1e3", -1e3),
            ("08", 8.0),
            ("18446744073709551615", 1.8446744073709552e19),
        ] {
            assert_eq!(plain(text), Scalar::Float(value), "{text}");
        }
        assert_eq!(plain("-.inf"), Scalar::Float(f64::NEG_INFINITY));
        assert!(matches!(plain(".nan"), Scalar::Float(value) if value.is_nan()));
    }

    #[test]
    fn what_only_begins_like_a_number_is_text() {
        for text in [
            "10.0.0.1",
            "10.0.0.0/8",
            "1.2.3",
            "-",
            "+",
            ".",
            "..",
            "-.",
            "0x",
            "0xg",
            "1e",
            "1e+",
            "123e999",
            "2026-01-01",
            "1:30",
            "8080-tcp",
            "+-1",
            "0x+1",
            "0b-1",
            "_",
            "-_",
            "1 2",
            "١",
        ] {
            assert_eq!(plain(text), Scalar::Text, "{text}");
        }
    }
}
