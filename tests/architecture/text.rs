//! A source file as text: its code without comments and strings, its strings, and where its unit tests begin.

/// A file's text, taken apart. Every part keeps the lines of the whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    /// The code, with strings emptied and comments taken out.
    pub(crate) code: String,
    /// The comments, and nothing else.
    pub(crate) comments: String,
    /// The contents of the strings, each with its line, from 1.
    pub(crate) strings: Vec<(usize, String)>,
}

impl Text {
    /// Takes a file apart.
    pub(crate) fn of(source: &str) -> Text {
        let mut text = Text::default();
        let mut rest = source;
        while let Some(first) = rest.chars().next() {
            let before = rest;
            if rest.starts_with("//") {
                let length = rest.find('\n').unwrap_or(rest.len());
                text.comments.push_str(&rest[..length]);
                rest = &rest[length..];
            } else if rest.starts_with("/*") {
                let length = block_comment(rest);
                text.comment(&rest[..length]);
                rest = &rest[length..];
            } else if let Some((content, length)) = string(rest, text.code.chars().next_back()) {
                let line = text.code.matches('\n').count() + 1;
                text.strings.push((line, rest[content].to_owned()));
                text.code.push_str("\"\"");
                text.blank(&rest[..length]);
                rest = &rest[length..];
            } else if let Some(length) = character(rest) {
                text.code.push_str("' '");
                rest = &rest[length..];
            } else {
                text.code.push(first);
                if first == '\n' {
                    text.comments.push('\n');
                }
                rest = &rest[first.len_utf8()..];
            }
            assert!(rest.len() < before.len(), "every turn takes something");
        }
        text
    }

    fn comment(&mut self, comment: &str) {
        self.comments.push_str(comment);
        self.code.extend(comment.chars().filter(|character| *character == '\n'));
    }

    fn blank(&mut self, string: &str) {
        for newline in string.chars().filter(|character| *character == '\n') {
            self.code.push(newline);
            self.comments.push(newline);
        }
    }

    /// The code above the unit tests; all of it when there are none.
    pub(crate) fn shipped(&self) -> &str {
        let mut from = 0;
        while let Some(at) = self.code[from..].find("#[cfg(test)]").map(|at| from + at) {
            let declared = self.code[at + "#[cfg(test)]".len()..].trim_start();
            if declared.starts_with("mod ") && before(declared, '{', ';') {
                return &self.code[..at];
            }
            from = at + 1;
        }
        &self.code
    }

    /// The strings above the unit tests.
    pub(crate) fn shipped_strings(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.shipped().lines().count();
        self.strings.iter().filter(move |(line, _)| *line <= lines).map(|(line, text)| (*line, text.as_str()))
    }
}

fn before(text: &str, one: char, other: char) -> bool {
    text.find([one, other]).is_some_and(|at| text[at..].starts_with(one))
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Where a string's content is, and the length of all of it, if a string begins here.
fn string(text: &str, last: Option<char>) -> Option<(std::ops::Range<usize>, usize)> {
    if last.is_some_and(|last| last.is_alphanumeric() || last == '_') {
        return None;
    }
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        let rest = text.strip_prefix(prefix).unwrap_or_default();
        let rest = if prefix.ends_with('r') { rest.trim_start_matches('#') } else { rest };
        rest.starts_with('"')
    })?;
    if prefix.ends_with('r') {
        let quote = text.find('"')?;
        let end = format!("\"{}", &text[prefix.len()..quote]);
        let length = text[quote + 1..].find(&end)?;
        return Some((quote + 1..quote + 1 + length, quote + 1 + length + end.len()));
    }
    let start = prefix.len() + 1;
    let mut escaped = false;
    for (at, character) in text[start..].char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some((start..start + at, start + at + 1)),
            _ => {}
        }
    }
    None
}

/// The length of a character literal, if one begins here and not a lifetime.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    let skip = if first == '\\' { 1 + inside[1..].chars().next()?.len_utf8() } else { first.len_utf8() };
    let close = inside[skip..].find('\'')?;
    let whole = if first == '\\' { !inside[skip..skip + close].contains(['\n', ' ']) } else { close == 0 };
    whole.then_some(1 + skip + close + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_taken_out_of_the_code() {
        let text =
            Text::of("let a = \"// not { a comment\"; // but \"this\"\nlet b = 'x'; /* and\nthis */ c();\n");
        assert_eq!(text.code, "let a = \"\"; \nlet b = ' '; \n c();\n");
        assert_eq!(text.comments, "// but \"this\"\n/* and\nthis */\n");
        assert_eq!(text.strings, [(1, "// not { a comment".to_owned())]);
    }

    #[test]
    fn raw_byte_and_escaped_strings_end_where_they_end() {
        let text = Text::of(r##"f(r#"a " b"#, b"\"x\\", "\"y", br"\");"##);
        assert_eq!(text.code, r#"f("", "", "", "");"#);
        let contents: Vec<_> = text.strings.iter().map(|(_, content)| content.as_str()).collect();
        assert_eq!(contents, ["a \" b", r#"\"x\\"#, "\\\"y", "\\"]);
    }

    #[test]
    fn lifetimes_are_no_characters_and_quotes_in_characters_open_nothing() {
        let code = |source| Text::of(source).code;
        assert_eq!(code("fn f<'a>(x: &'a str) {}"), "fn f<'a>(x: &'a str) {}");
        assert_eq!(code("['\"', '\\'', '\\u{0}', 'é'] \"s\""), "[' ', ' ', ' ', ' '] \"\"");
    }

    #[test]
    fn lines_stay_where_they_were() {
        let text = Text::of("\"a\nb\"\n/* \n */\nx \"c\"\n");
        assert_eq!(text.code.matches('\n').count(), 5);
        assert_eq!(text.strings[1], (5, "c".to_owned()));
    }

    #[test]
    fn unit_tests_are_not_shipped_but_what_follows_a_test_only_module_is() {
        let text =
            Text::of("mod a;\n#[cfg(test)]\nmod b;\nfn c() {}\n#[cfg(test)]\nmod tests { fn d() {} }\n");
        assert_eq!(text.shipped(), "mod a;\n#[cfg(test)]\nmod b;\nfn c() {}\n");
        assert_eq!(Text::of("fn a() {}").shipped(), "fn a() {}");
    }
}
