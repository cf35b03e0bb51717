//! Processes a server's JSON before kube reads it: repairs text that is not UTF-8, and counts bookmarks.

use bytes::Bytes;
use serde::Deserialize;

/// How a bookmark begins, as every API server writes it.
const BOOKMARK: &[u8] = b"{\"type\":\"BOOKMARK\"";
/// A bookmark is never longer, as it contains hardly anything.
const LONGEST_BOOKMARK: usize = 64 << 10;

/// One response, read piece by piece.
#[derive(Debug, Default)]
pub(super) struct Text {
    /// The beginning of a character whose rest has not arrived.
    cut: Vec<u8>,
    /// The beginning of the line, as long as it may be a bookmark.
    line: Vec<u8>,
    /// Whether the line is certainly no bookmark.
    other: bool,
}

impl Text {
    /// The next piece, with U+FFFD in place of what is not UTF-8. Valid text is passed on without a copy.
    pub(super) fn repair(&mut self, data: Bytes) -> Bytes {
        if self.cut.is_empty() && std::str::from_utf8(&data).is_ok() {
            return data;
        }
        let mut bytes = std::mem::take(&mut self.cut);
        bytes.extend_from_slice(&data);
        let mut repaired = String::with_capacity(bytes.len());
        let mut rest = &*bytes;
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    repaired.push_str(text);
                    break;
                }
                Err(error) => {
                    let (sound, wrong) = rest.split_at(error.valid_up_to());
                    repaired.push_str(&String::from_utf8_lossy(sound));
                    let Some(length) = error.error_len() else {
                        self.cut = wrong.to_vec();
                        break;
                    };
                    repaired.push(char::REPLACEMENT_CHARACTER);
                    rest = wrong.get(length..).unwrap_or_default();
                }
            }
        }
        repaired.into()
    }

    /// How many bookmarks end in this piece of a watch.
    pub(super) fn bookmarks(&mut self, data: &[u8]) -> usize {
        let mut count = 0;
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            if !self.other {
                self.line.extend_from_slice(piece);
                let shared = self.line.len().min(BOOKMARK.len());
                self.other =
                    self.line.get(..shared) != BOOKMARK.get(..shared) || self.line.len() > LONGEST_BOOKMARK;
            }
            if piece.ends_with(b"\n") {
                count += usize::from(!self.other && is_bookmark(&self.line));
                self.line.clear();
                self.other = false;
            } else if self.other {
                self.line.clear();
            }
        }
        count
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bookmark {
    object: Versioned,
}

#[derive(Deserialize)]
struct Versioned {
    metadata: Version,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    resource_version: String,
}

fn is_bookmark(line: &[u8]) -> bool {
    serde_json::from_slice(line)
        .is_ok_and(|bookmark: Bookmark| !bookmark.object.metadata.resource_version.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_utf_8_is_repaired_however_it_is_cut() {
        let bytes = b"a\xff\xc3\xa9b\xe2\x82".to_vec();
        for size in 1..=bytes.len() {
            let mut text = Text::default();
            let repaired: Vec<u8> =
                bytes.chunks(size).flat_map(|piece| text.repair(piece.to_vec().into())).collect();
            assert_eq!(String::from_utf8(repaired).unwrap(), "a\u{fffd}éb", "{size}");
        }
        let whole = Bytes::from_static(b"{\"a\": 1}");
        assert_eq!(Text::default().repair(whole.clone()).as_ptr(), whole.as_ptr(), "it is not copied");
    }

    #[test]
    fn bookmarks_are_counted_however_they_are_cut() {
        let lines = concat!(
            "{\"type\":\"ADDED\",\"object\":{}}\n",
            "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"7\"}}}\n",
            "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{}}}\n",
            "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}\n",
        );
        for size in [1, 7, 30, 1000] {
            let mut text = Text::default();
            let noted: usize = lines.as_bytes().chunks(size).map(|piece| text.bookmarks(piece)).sum();
            assert_eq!(noted, 2, "{size}");
        }
    }
}
