//! The wire format of protocol buffers: fields in sequence, whose lengths are not trusted.

use thiserror::Error;

/// Why bytes are not a valid message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(in crate::source::watch) enum Malformed {
    /// A length or a number reaches beyond the end.
    #[error("a field is cut short")]
    Short,
    /// A wire type that protocol buffers do not have.
    #[error("a field has the unknown wire type {0}")]
    WireType(u8),
    /// A field has another type than in the API.
    #[error("a field has a value of another type")]
    Type,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    Text,
    /// An object that is longer than any that a server stores.
    #[error("it is too long")]
    Long,
    /// An object without a name.
    #[error("an object has no name")]
    Nameless,
    /// An object of a kind that was not requested.
    #[error("an object is neither a pod nor a status")]
    Kind,
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireValue<'a> {
    /// An integer or a boolean, as a varint.
    Number(u64),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
    /// Four or eight bytes; no field that is read here has this type.
    Fixed,
}

impl<'a> WireValue<'a> {
    /// The bytes.
    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            WireValue::Bytes(bytes) => Ok(bytes),
            WireValue::Number(_) | WireValue::Fixed => Err(Malformed::Type),
        }
    }

    /// The integer or boolean.
    pub(super) fn number(self) -> Result<u64, Malformed> {
        match self {
            WireValue::Number(number) => Ok(number),
            WireValue::Bytes(_) | WireValue::Fixed => Err(Malformed::Type),
        }
    }

    /// The text.
    pub(super) fn text(self) -> Result<&'a str, Malformed> {
        text(self.bytes()?)
    }

    /// A string that may be absent, which the API server writes as an empty one.
    pub(super) fn some_text(self) -> Result<Option<String>, Malformed> {
        Ok(Some(self.text()?).filter(|text| !text.is_empty()).map(str::to_owned))
    }
}

/// The fields of a message with their numbers, in order. Ends after the first that is malformed.
pub(super) fn fields(message: &[u8]) -> impl Iterator<Item = Result<(u64, WireValue<'_>), Malformed>> {
    let mut rest = message;
    std::iter::from_fn(move || (!rest.is_empty()).then(|| field(&mut rest).inspect_err(|_| rest = &[])))
}

/// The bytes of one field of a truncated message, as far as they were received.
pub(super) fn find_in_beginning(message: &[u8], number: u64) -> Option<&[u8]> {
    let mut rest = message;
    while !rest.is_empty() {
        let before = rest;
        match field(&mut rest) {
            Ok((own, WireValue::Bytes(bytes))) if own == number => return Some(bytes),
            Ok(_) => {}
            Err(_) => {
                let mut cut = before;
                let tag = varint(&mut cut).ok()?;
                varint(&mut cut).ok()?;
                return (tag == number << 3 | 2).then_some(cut);
            }
        }
    }
    None
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<(u64, WireValue<'a>), Malformed> {
    let tag = varint(rest)?;
    let value = match tag & 7 {
        0 => WireValue::Number(varint(rest)?),
        1 => take(rest, 8).map(|_| WireValue::Fixed)?,
        2 => {
            let length = usize::try_from(varint(rest)?).map_err(|_| Malformed::Short)?;
            WireValue::Bytes(take(rest, length)?)
        }
        5 => take(rest, 4).map(|_| WireValue::Fixed)?,
        other => return Err(Malformed::WireType(other as u8)),
    };
    Ok((tag >> 3, value))
}

/// A varint: seven bits per byte, the lowest first, at most ten bytes.
fn varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0;
    for place in 0..10 {
        let [byte] = take(rest, 1)? else { return Err(Malformed::Short) };
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed::Short)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, left) = rest.split_at_checked(length).ok_or(Malformed::Short)?;
    *rest = left;
    Ok(taken)
}

/// The bytes of one field; empty if it is absent.
pub(super) fn find(message: &[u8], number: u64) -> Result<&[u8], Malformed> {
    let mut found = &[][..];
    for field in fields(message) {
        match field? {
            (own, WireValue::Bytes(bytes)) if own == number => found = bytes,
            _ => {}
        }
    }
    Ok(found)
}

/// A text.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed::Text)
}

/// A string that does not affect enforcement, with U+FFFD for what is not UTF-8.
pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An entry of a map of texts.
pub(super) fn entry(message: &[u8]) -> Result<(&str, &str), Malformed> {
    let (mut key, mut value) = ("", "");
    for field in fields(message) {
        match field? {
            (1, field) => key = field.text()?,
            (2, field) => value = field.text()?,
            _ => {}
        }
    }
    Ok((key, value))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put_varint(into: &mut Vec<u8>, mut number: u64) {
        while number >= 0x80 {
            into.push(number as u8 | 0x80);
            number >>= 7;
        }
        into.push(number as u8);
    }

    /// A field with bytes in it.
    pub(in crate::source::watch::protobuf) fn bytes(number: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
        let mut field = Vec::new();
        put_varint(&mut field, number << 3 | 2);
        put_varint(&mut field, value.as_ref().len() as u64);
        field.extend(value.as_ref());
        field
    }

    /// A field with a number in it.
    pub(in crate::source::watch::protobuf) fn number(number: u64, value: u64) -> Vec<u8> {
        let mut field = Vec::new();
        put_varint(&mut field, number << 3);
        put_varint(&mut field, value);
        field
    }

    #[test]
    fn fields_come_in_order_and_unused_ones_are_kept() {
        let fixed = [vec![4 << 3 | 5], vec![0; 4], vec![5 << 3 | 1], vec![0; 8]].concat();
        let message = [bytes(1, "web"), number(2000, u64::MAX), fixed, bytes(6, "")].concat();
        let read: Vec<_> = fields(&message).map(|field| field.unwrap()).collect();
        let expected = [
            (1, WireValue::Bytes(b"web")),
            (2000, WireValue::Number(u64::MAX)),
            (4, WireValue::Fixed),
            (5, WireValue::Fixed),
            (6, WireValue::Bytes(b"")),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn length_beyond_the_end_stops_the_reading() {
        for (wrong, why) in [
            (&[1 << 3 | 2, 4, b'a', b'b'][..], Malformed::Short),
            (&[1 << 3, 0x80], Malformed::Short),
            (&[1 << 3 | 3], Malformed::WireType(3)),
            (&[0xff; 20], Malformed::Short),
        ] {
            assert_eq!(fields(wrong).collect::<Vec<_>>(), [Err(why)]);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_run_forever(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(fields(&bytes).count() <= bytes.len() + 1);
            let _ = entry(&bytes);
        }
    }
}
