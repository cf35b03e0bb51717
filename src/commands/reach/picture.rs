//! The matrix as a picture (SVG).

use crate::matrix::{Cell, MatrixEnd, ReachMatrix};
use std::fmt::Write as _;

/// The side of a cell, in pixels.
const SIDE: usize = 18;
/// The width of a character of the labels, about.
const CHARACTER: usize = 7;

/// A square for each pair of ends, and what is allowed as its title.
pub(super) fn of(matrix: &ReachMatrix<'_>) -> String {
    let longest = |ends: &[MatrixEnd]| ends.iter().map(|end| end.label().chars().count()).max().unwrap_or(0);
    let left = longest(&matrix.sources) * CHARACTER + 12;
    let top = longest(&matrix.destinations) * CHARACTER + 12;
    let width = left + matrix.destinations.len() * SIDE + 12;
    let height = top + matrix.sources.len() * SIDE + 12;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"ui-monospace, monospace\" font-size=\"12\" role=\"img\" aria-label=\"Who can reach whom\">\n\
         <style>text{{fill:#222}}.none{{fill:#eee}}.some{{fill:#4c8fd6}}.all{{fill:#d97a2b}}\
         @media (prefers-color-scheme:dark){{text{{fill:#ddd}}.none{{fill:#333}}}}</style>\n"
    );
    for (row, source) in matrix.sources.iter().enumerate() {
        let y = top + row * SIDE + SIDE - 5;
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{}</text>",
            left - 6,
            escaped(&source.label())
        );
    }
    for (column, destination) in matrix.destinations.iter().enumerate() {
        let x = left + column * SIDE + SIDE - 5;
        let y = top - 6;
        let label = escaped(&destination.label());
        let _ = writeln!(text, "<text transform=\"translate({x} {y}) rotate(-90)\">{label}</text>");
    }
    for (row, source) in matrix.sources.iter().enumerate() {
        for (column, destination) in matrix.destinations.iter().enumerate() {
            let Some(cell) = matrix.cell(row, column) else { continue };
            let (x, y) = (left + column * SIDE, top + row * SIDE);
            let title = escaped(&format!("{} to {}: {}", source.label(), destination.label(), words(cell)));
            let side = SIDE - 2;
            let _ = writeln!(
                text,
                "<rect class=\"{}\" x=\"{x}\" y=\"{y}\" width=\"{side}\" height=\"{side}\"><title>{title}</title></rect>",
                class(cell)
            );
        }
    }
    text.push_str("</svg>\n");
    text
}

/// What is allowed, in one line.
pub(super) fn words(cell: Cell<'_>) -> String {
    if cell.is_empty() { "nothing".to_owned() } else { cell.words().join(", ") }
}

fn class(cell: Cell<'_>) -> &'static str {
    match (cell.is_empty(), cell.is_all()) {
        (true, _) => "none",
        (false, true) => "all",
        (false, false) => "some",
    }
}

/// A text as XML takes it, also in an attribute. A character that XML 1.0 cannot contain becomes U+FFFD.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // An attribute's line breaks and tabs would be read as spaces.
            '\n' => escaped.push_str("&#10;"),
            '\r' => escaped.push_str("&#13;"),
            '\t' => escaped.push_str("&#9;"),
            '\u{0}'..'\u{20}' | '\u{fffe}' | '\u{ffff}' => escaped.push(char::REPLACEMENT_CHARACTER),
            _ => escaped.push(character),
        }
    }
    escaped
}
