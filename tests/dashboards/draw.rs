//! Pictures of dashboards: what their panels ask, answered, as SVG.

use crate::board::{Board, Panel};
use crate::prometheus::TimeSeries;
use crate::unit::{Scale, shown};
use std::fmt::{self, Write};

/// Pixels of a column and of a row of Grafana's grid.
const COLUMN: f64 = 50.0;
const ROW: f64 = 30.0;
/// What is left free around a panel and inside it.
const GAP: f64 = 4.0;
const PADDING: f64 = 10.0;
const COLOURS: [&str; 10] = [
    "#3274d9", "#e0752d", "#37872d", "#a352cc", "#c4162a", "#0f8a8a", "#b8860b", "#5c6bc0", "#8d6e63",
    "#546e7a",
];

/// A panel's series, each with its legend.
pub(crate) type Answers = Vec<(String, TimeSeries)>;

/// The picture of a dashboard over a range of time. `answers` are of its panels, in their order.
pub(crate) fn picture(board: &Board, answers: &[Answers], from: f64, to: f64) -> Result<String, fmt::Error> {
    let bottom =
        board.panels.iter().map(|panel| panel.grid_pos.y + panel.grid_pos.h).max().unwrap_or_default();
    let (width, height) = (24.0 * COLUMN, f64::from(bottom) * ROW + 34.0);
    let mut svg = String::new();
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11" fill="#333">"##
    )?;
    writeln!(svg, r##"<rect width="100%" height="100%" fill="#f4f5f5"/>"##)?;
    writeln!(svg, r#"<text x="8" y="22" font-size="16">{}</text>"#, escaped(&board.title))?;
    for (panel, answers) in board.panels.iter().zip(answers) {
        let frame = PlotFrame {
            x: f64::from(panel.grid_pos.x) * COLUMN + GAP,
            y: f64::from(panel.grid_pos.y) * ROW + GAP + 30.0,
            w: f64::from(panel.grid_pos.w) * COLUMN - 2.0 * GAP,
            h: f64::from(panel.grid_pos.h) * ROW - 2.0 * GAP,
        };
        writeln!(
            svg,
            r##"<rect x="{}" y="{}" width="{}" height="{}" rx="2" fill="#fff" stroke="#dcdee0"/>"##,
            frame.x, frame.y, frame.w, frame.h
        )?;
        let (x, y) = (frame.x + PADDING, frame.y + 18.0);
        writeln!(
            svg,
            r#"<text x="{x}" y="{y}" font-size="12" font-weight="bold">{}</text>"#,
            escaped(&panel.title)
        )?;
        match panel.kind.as_str() {
            "stat" => stat(&mut svg, panel, answers, frame)?,
            "table" => table(&mut svg, panel, answers, frame)?,
            "heatmap" => heatmap(&mut svg, answers, frame, from, to)?,
            _ => series(&mut svg, panel, answers, frame, from, to)?,
        }
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

#[derive(Clone, Copy)]
struct PlotFrame {
    x: f64,
    y: f64,
    w: f64,
    h: f64,
}

impl PlotFrame {
    /// What is left for a plot: without the title, the labels of both axes, and so many lines of legend.
    fn plot(self, legend: usize) -> PlotFrame {
        let below = 20.0 + 15.0 * legend as f64;
        PlotFrame { x: self.x + 62.0, y: self.y + 30.0, w: self.w - 62.0 - PADDING, h: self.h - 30.0 - below }
    }
}

fn stat(svg: &mut String, panel: &Panel, answers: &Answers, frame: PlotFrame) -> fmt::Result {
    let value = answers.first().and_then(|(_, line)| line.points.last()).map(|(_, value)| *value);
    let text = value.map(|value| shown(value, panel.unit())).unwrap_or_default();
    let (x, y) = (frame.x + frame.w / 2.0, frame.y + frame.h / 2.0 + 22.0);
    writeln!(
        svg,
        r##"<text x="{x}" y="{y}" font-size="30" text-anchor="middle" fill="#1f60c4">{text}</text>"##
    )
}

fn table(svg: &mut String, panel: &Panel, answers: &Answers, frame: PlotFrame) -> fmt::Result {
    let Some((_, first)) = answers.first() else { return Ok(()) };
    let names: Vec<&String> = first.labels.keys().collect();
    let width = (frame.w - 2.0 * PADDING) / (names.len() + 1) as f64;
    let mut row = |number: usize, cells: &[String], weight: &str| -> fmt::Result {
        let y = frame.y + 42.0 + 18.0 * number as f64;
        (0..).zip(cells).try_for_each(|(column, cell)| {
            let x = frame.x + PADDING + width * f64::from(column);
            writeln!(svg, r#"<text x="{x}" y="{y}" font-weight="{weight}">{}</text>"#, escaped(cell))
        })
    };
    let heads: Vec<String> = names.iter().map(|name| (*name).clone()).chain(["Value".to_owned()]).collect();
    row(0, &heads, "bold")?;
    let fits = ((frame.h - 60.0) / 18.0).max(0.0) as usize;
    for (number, (_, line)) in answers.iter().enumerate().take(fits) {
        let value = line.points.last().map(|(_, value)| shown(*value, panel.unit())).unwrap_or_default();
        let cells = names.iter().map(|name| line.labels.get(*name).cloned().unwrap_or_default());
        row(number + 1, &cells.chain([value]).collect::<Vec<_>>(), "normal")?;
    }
    Ok(())
}

fn series(
    svg: &mut String,
    panel: &Panel,
    answers: &Answers,
    frame: PlotFrame,
    from: f64,
    to: f64,
) -> fmt::Result {
    let legend = legend(answers, frame);
    let plot = frame.plot(legend.iter().map(|(_, row, _)| row + 1).max().unwrap_or_default());
    let values = answers.iter().flat_map(|(_, line)| &line.points).map(|(_, value)| *value);
    let scale = Scale::over(values.filter(|value| value.is_finite()).fold(0.0, f64::max));
    let up = |value: f64| plot.y + plot.h * (1.0 - value / scale.top);
    let along = |time: f64| plot.x + plot.w * (time - from) / (to - from);
    for mark in scale.marks() {
        let y = up(mark);
        let (right, left) = (plot.x + plot.w, plot.x - 6.0);
        writeln!(svg, r##"<path d="M{:.1} {y:.1}H{right:.1}" stroke="#e6e8ea"/>"##, plot.x)?;
        let label = shown(mark, panel.unit());
        writeln!(
            svg,
            r##"<text x="{left:.1}" y="{:.1}" text-anchor="end" fill="#777">{label}</text>"##,
            y + 4.0
        )?;
    }
    clock(svg, plot, from, to)?;
    for (number, (_, line)) in answers.iter().enumerate() {
        let mut path = String::new();
        let mut pen = 'M';
        let mut last = f64::NEG_INFINITY;
        for (time, value) in &line.points {
            // Where there is no value, there is no line.
            if !value.is_finite() || time - last > 1.5 {
                pen = 'M';
            }
            if value.is_finite() {
                write!(path, "{pen}{:.1} {:.1}", along(*time), up(*value))?;
                (pen, last) = ('L', *time);
            }
        }
        let colour = COLOURS[number % COLOURS.len()];
        writeln!(svg, r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.3"/>"#)?;
    }
    for (number, (x, row, text)) in legend.iter().enumerate() {
        let y = plot.y + plot.h + 34.0 + 15.0 * *row as f64;
        let colour = COLOURS[number % COLOURS.len()];
        writeln!(svg, r#"<path d="M{x:.1} {:.1}h12" stroke="{colour}" stroke-width="3"/>"#, y - 4.0)?;
        writeln!(svg, r#"<text x="{:.1}" y="{y:.1}">{}</text>"#, x + 16.0, escaped(text))?;
    }
    Ok(())
}

/// Where each legend is: how far right, and in which line.
fn legend(answers: &Answers, frame: PlotFrame) -> Vec<(f64, usize, String)> {
    let (mut x, mut row) = (frame.x + PADDING, 0);
    answers
        .iter()
        .map(|(text, _)| {
            let width = 30.0 + 6.2 * text.chars().count() as f64;
            if x + width > frame.x + frame.w && x > frame.x + PADDING {
                (x, row) = (frame.x + PADDING, row + 1);
            }
            let here = (x, row, text.clone());
            x += width;
            here
        })
        .collect()
}

fn heatmap(svg: &mut String, answers: &Answers, frame: PlotFrame, from: f64, to: f64) -> fmt::Result {
    let plot = frame.plot(0);
    let bound =
        |line: &TimeSeries| line.labels.get("le").and_then(|le| le.trim_start_matches('+').parse().ok());
    let mut buckets: Vec<(f64, &TimeSeries)> =
        answers.iter().filter_map(|(_, line)| Some((bound(line)?, line))).collect();
    buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    // Buckets are cumulative; what is shown is what each adds.
    let mut before: Vec<(f64, f64)> = Vec::new();
    let mut own = Vec::new();
    for (bound, line) in &buckets {
        let below = |time: f64| before.iter().find(|(at, _)| *at == time).map_or(0.0, |(_, value)| *value);
        let counts = line.points.iter().map(|(time, value)| (*time, (value - below(*time)).max(0.0)));
        own.push((*bound, counts.collect::<Vec<_>>()));
        before.clone_from(&line.points);
    }
    let most = own.iter().flat_map(|(_, counts)| counts).map(|(_, count)| *count).fold(0.0, f64::max);
    let height = plot.h / own.len().max(1) as f64;
    let width = plot.w / (to - from).max(1.0);
    for (number, (bound, counts)) in own.iter().enumerate() {
        let y = plot.y + plot.h - height * (number + 1) as f64;
        if number % 3 == 0 || number + 1 == own.len() {
            let label = if bound.is_finite() { shown(*bound, "s") } else { "more".to_owned() };
            let (x, y) = (plot.x - 6.0, y + 6.0);
            writeln!(svg, r##"<text x="{x:.1}" y="{y:.1}" text-anchor="end" fill="#777">{label}</text>"##)?;
        }
        for (time, count) in counts.iter().filter(|(_, count)| *count > 0.0) {
            let x = plot.x + plot.w * (time - from) / (to - from);
            let width = width.min(plot.x + plot.w - x);
            let strength = 0.15 + 0.85 * (count / most).sqrt();
            writeln!(
                svg,
                r##"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="#1f60c4" opacity="{strength:.2}"/>"##
            )?;
        }
    }
    clock(svg, plot, from, to)
}

/// The axis of time: minutes and seconds since the run began.
fn clock(svg: &mut String, plot: PlotFrame, from: f64, to: f64) -> fmt::Result {
    let step = if to - from > 180.0 { 30 } else { 15 };
    let y = plot.y + plot.h + 15.0;
    let mut seconds = 0;
    while f64::from(seconds) <= to - from {
        let x = plot.x + plot.w * f64::from(seconds) / (to - from);
        let label = format!("{}:{:02}", seconds / 60, seconds % 60);
        writeln!(svg, r##"<text x="{x:.1}" y="{y:.1}" text-anchor="middle" fill="#777">{label}</text>"##)?;
        seconds += step;
    }
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
