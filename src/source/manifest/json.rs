//! Rewrites as YAML what kubectl accepts and YAML does not: JSON's surrogate pairs, consecutive JSON documents, byte
//! order marks.

use std::borrow::Cow;

/// Replaces each pair of surrogates (`\ud83d\ude00`), which JSON has and YAML does not, by the character that it means.
pub(super) fn join_surrogates(text: &str) -> Cow<'_, str> {
    let mut joined = String::new();
    let (mut rest, mut written) = (text, 0);
    while let Some(at) = rest.find("\\u") {
        let start = text.len() - rest.len() + at;
        rest = text.get(start + 2..).unwrap_or_default();
        let escaped = text
            .get(..start)
            .is_some_and(|before| before.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1);
        let half = |digits: Option<&str>| digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let second = rest.get(4..6).filter(|next| *next == "\\u").and_then(|_| half(rest.get(6..10)));
        let Some((first, second)) = half(rest.get(..4)).zip(second).filter(|_| !escaped) else { continue };
        if let Some(Ok(character)) = char::decode_utf16([first, second]).next().filter(|_| first >= 0xd800) {
            joined += text.get(written..start).unwrap_or_default();
            joined.push_str(&format!("\\U{:08x}", u32::from(character)));
            rest = rest.get(10..).unwrap_or_default();
            written = text.len() - rest.len();
        }
    }
    if joined.is_empty() {
        return Cow::Borrowed(text);
    }
    joined += text.get(written..).unwrap_or_default();
    Cow::Owned(joined)
}

/// Splits a text into documents as kubectl does: JSON documents may follow each other without `---`, and each document
/// may begin with a byte order mark. Line numbers stay the same, except for JSON documents on one line.
pub(super) fn separate(text: &str) -> Cow<'_, str> {
    let mut separate = Cow::Borrowed(text);
    if text.contains(BYTE_ORDER_MARK) {
        let mended =
            text.split_inclusive('\n').map(|line| line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line));
        separate = Cow::Owned(mended.collect());
    }
    if !separate.trim_start().starts_with('{') {
        return separate;
    }
    let mut documents = serde_json::Deserializer::from_str(&separate).into_iter::<serde::de::IgnoredAny>();
    let (mut joined, mut written) = (String::new(), 0);
    while let Some(Ok(_)) = documents.next() {
        let end = documents.byte_offset();
        let Some(rest) = separate.get(end..) else { break };
        let Some(next) = rest.find(|character: char| !character.is_whitespace()) else { break };
        if !rest.split_at(next).1.starts_with('{') {
            break;
        }
        joined += separate.get(written..end).unwrap_or_default();
        // The next document begins on the line of the separator, so that later line numbers stay the same.
        joined += rest.get(..next).unwrap_or_default();
        if !joined.ends_with('\n') {
            joined.push('\n');
        }
        joined += "--- ";
        written = end + next;
    }
    if written == 0 {
        return separate;
    }
    joined += separate.get(written..).unwrap_or_default();
    Cow::Owned(joined)
}

const BYTE_ORDER_MARK: char = '\u{feff}';
