//! The matrix as text: for a terminal, and for Markdown.

use crate::matrix::{Cell, MatrixEnd, ReachMatrix};
use std::io::{self, Write};

/// Between two columns.
const GAP: usize = 2;

/// What a cell says: a line for each part.
fn lines(cell: Option<Cell<'_>>) -> Vec<String> {
    match cell {
        None => vec![String::new()],
        Some(cell) if cell.is_empty() => vec!["-".to_owned()],
        Some(cell) => cell.words(),
    }
}

/// The name of an end: blocks of addresses, which may be many, on a line each.
fn name_lines(label: &str) -> Vec<String> {
    let parts: Vec<&str> = label.split(", ").collect();
    let last = parts.len() - 1;
    parts
        .iter()
        .enumerate()
        .map(|(place, part)| if place < last { format!("{part},") } else { part.to_string() })
        .collect()
}

/// What stands above a column: the namespace, and the lines of the rest of the name.
struct Head {
    namespace: String,
    name: Vec<String>,
}

impl Head {
    fn of(end: &MatrixEnd) -> Head {
        let label = end.label();
        let namespace = end.namespace().unwrap_or_default();
        let name = label.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('/'));
        match name {
            Some(name) if !namespace.is_empty() => {
                Head { namespace: namespace.to_owned(), name: name_lines(name) }
            }
            Some(_) | None => Head { namespace: String::new(), name: name_lines(&label) },
        }
    }

    fn width(&self) -> usize {
        self.name.iter().chain([&self.namespace]).map(|text| width(text)).max().unwrap_or(0)
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Prints the matrix in bands of at most `columns` characters where a single destination is not wider.
pub(super) fn print(matrix: &ReachMatrix<'_>, columns: usize, out: &mut impl Write) -> io::Result<()> {
    let sources: Vec<Vec<String>> = matrix.sources.iter().map(|end| name_lines(&end.label())).collect();
    let left = sources.iter().flatten().map(|name| width(name)).chain(["FROM".len()]).max().unwrap_or(0);
    let widths: Vec<usize> = (matrix.destinations.iter().enumerate())
        .map(|(column, end)| {
            let cells = (0..matrix.sources.len()).flat_map(|row| lines(matrix.cell(row, column)));
            cells.map(|text| width(&text)).chain([Head::of(end).width()]).max().unwrap_or(0)
        })
        .collect();
    let mut first = 0;
    while first < widths.len() {
        let mut used = left;
        let fits = widths[first..].iter().enumerate().take_while(|(place, width)| {
            used += GAP + **width;
            used <= columns && matrix.is_focused(first + place) == matrix.is_focused(first)
        });
        let count = fits.count().max(1);
        if first > 0 {
            writeln!(out)?;
        }
        print_band(matrix, &sources, left, &widths, first..first + count, out)?;
        first += count;
    }
    Ok(())
}

fn print_band(
    matrix: &ReachMatrix<'_>,
    sources: &[Vec<String>],
    left: usize,
    widths: &[usize],
    band: std::ops::Range<usize>,
    out: &mut impl Write,
) -> io::Result<()> {
    let heads: Vec<Head> = band.clone().map(|column| Head::of(&matrix.destinations[column])).collect();
    let mut print_line = |name: &str, cells: &mut dyn Iterator<Item = &str>| {
        let mut line = format!("{name:left$}");
        for (cell, column) in cells.zip(band.clone()) {
            line.push_str(&format!("{:GAP$}{cell:width$}", "", width = widths[column]));
        }
        writeln!(out, "{}", line.trim_end())
    };
    let mut above = "";
    let mut namespaces = Vec::with_capacity(heads.len());
    for Head { namespace, .. } in &heads {
        namespaces.push(if namespace == above { "" } else { namespace.as_str() });
        above = namespace;
    }
    print_line("TO", &mut namespaces.into_iter())?;
    let part_of = |lines: &[String], part: usize| lines.get(part).cloned().unwrap_or_default();
    let height = heads.iter().map(|head| head.name.len()).max().unwrap_or(1);
    for part in 0..height {
        let name = if part + 1 == height { "FROM" } else { "" };
        // Names end on the last line.
        let parts: Vec<String> = heads
            .iter()
            .map(|head| {
                (part + head.name.len())
                    .checked_sub(height)
                    .map_or(String::new(), |part| part_of(&head.name, part))
            })
            .collect();
        print_line(name, &mut parts.iter().map(String::as_str))?;
    }
    // With one namespace shown, other destinations are connected to its sources alone.
    let is_shown = |row: &usize| band.clone().any(|column| matrix.cell(*row, column).is_some());
    for row in (0..sources.len()).filter(is_shown) {
        let name = &sources[row];
        let cells: Vec<Vec<String>> = band.clone().map(|column| lines(matrix.cell(row, column))).collect();
        let height = cells.iter().map(Vec::len).chain([name.len()]).max().unwrap_or(1);
        for part in 0..height {
            let parts: Vec<String> = cells.iter().map(|cell| part_of(cell, part)).collect();
            print_line(&part_of(name, part), &mut parts.iter().map(String::as_str))?;
        }
    }
    Ok(())
}

/// Prints the matrix as a table in Markdown.
pub(super) fn print_markdown(matrix: &ReachMatrix<'_>, out: &mut impl Write) -> io::Result<()> {
    write!(out, "| from \\ to |")?;
    for destination in &matrix.destinations {
        write!(out, " {} |", in_markdown(&destination.label()))?;
    }
    write!(out, "\n|:--|")?;
    matrix.destinations.iter().try_for_each(|_| write!(out, ":--|"))?;
    writeln!(out)?;
    for (row, source) in matrix.sources.iter().enumerate() {
        write!(out, "| {} |", in_markdown(&source.label()))?;
        for column in 0..matrix.destinations.len() {
            write!(out, " {} |", lines(matrix.cell(row, column)).join("<br>"))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A text in a cell of a table in Markdown.
pub(super) fn in_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' => escaped.extend(['\\', character]),
            _ if character.is_control() => escaped.push(' '),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Prints one line for each pair of ends between which something is allowed, as comma-separated values. Every end is named in full.
pub(super) fn print_csv(matrix: &ReachMatrix<'_>, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "from,to,allowed")?;
    for (source, destination, cell) in matrix.connections() {
        let fields = [source.in_full(), destination.in_full(), cell.words().join(", ")];
        writeln!(out, "{}", fields.map(|field| csv(&field)).join(","))?;
    }
    Ok(())
}

/// A field of comma-separated values (RFC 4180).
fn csv(field: &str) -> String {
    if field.contains([',', '"', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
