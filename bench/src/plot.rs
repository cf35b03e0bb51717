//! A picture of how latencies grow with the cluster: both axes by powers of ten.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// The margins for labels: left, right, above, below.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 250.0;
const ABOVE: f64 = 40.0;
const BELOW: f64 = 45.0;
const COLOURS: [&str; 6] = ["#3274d9", "#37872d", "#a352cc", "#e0752d", "#c4162a", "#b8860b"];
/// The smallest value that is shown, in milliseconds: smaller ones measure the network itself.
const LEAST: f64 = 0.1;

/// A line: its title, and its points, each a number of pods and milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlotLine {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// The picture with these lines, as SVG.
pub(crate) fn picture(title: &str, lines: &[PlotLine]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let pods = decades(points().map(|(pods, _)| *pods), 1e3);
    let times = decades(points().map(|(_, time)| time.max(LEAST)), 1.0);
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BELOW);
    let along = |count: f64| LEFT + (right - LEFT) * part(count, pods);
    let up = |time: f64| bottom - (bottom - ABOVE) * part(time.max(LEAST), times);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11" fill="#333">
<rect width="100%" height="100%" fill="#fff"/>
<text x="{LEFT}" y="22" font-size="14">{}</text>
"##,
        escaped(title)
    );
    for power in times.0..=times.1 {
        let (value, y) = (10_f64.powi(power), up(10_f64.powi(power)));
        let label = if value < 1e3 { format!("{value} ms") } else { format!("{} s", value / 1e3) };
        let _ = writeln!(svg, r##"<path d="M{LEFT} {y:.1}H{right:.1}" stroke="#e6e8ea"/>"##);
        let _ = writeln!(
            svg,
            r##"<text x="{}" y="{:.1}" text-anchor="end" fill="#777">{label}</text>"##,
            LEFT - 6.0,
            y + 4.0
        );
    }
    for power in pods.0..=pods.1 {
        let x = along(10_f64.powi(power));
        let label = format!("{} pods", grouped(10_f64.powi(power)));
        let _ = writeln!(svg, r##"<path d="M{x:.1} {ABOVE}V{bottom:.1}" stroke="#e6e8ea"/>"##);
        let _ = writeln!(
            svg,
            r##"<text x="{x:.1}" y="{:.1}" text-anchor="middle" fill="#777">{label}</text>"##,
            bottom + 18.0
        );
    }
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let mut path = String::new();
        for (index, (count, time)) in line.points.iter().enumerate() {
            let (x, y) = (along(*count), up(*time));
            let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
            let _ = writeln!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#);
        }
        let _ = writeln!(svg, r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>"#);
        let (x, y) = (right + 16.0, ABOVE + 12.0 + 18.0 * number as f64);
        let _ = writeln!(svg, r#"<path d="M{x:.1} {:.1}h14" stroke="{colour}" stroke-width="3"/>"#, y - 4.0);
        let _ = writeln!(svg, r#"<text x="{:.1}" y="{y:.1}">{}</text>"#, x + 20.0, escaped(&line.name));
    }
    svg.push_str("</svg>\n");
    svg
}

/// The powers of ten below and above all these values, different from each other.
fn decades(values: impl Iterator<Item = f64>, otherwise: f64) -> (i32, i32) {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        (least, most) = (least.min(value), most.max(value));
    }
    let (least, most) = if least <= most { (least, most) } else { (otherwise, otherwise) };
    // The measured values have small powers of ten.
    let (low, high) = (least.log10().floor() as i32, most.log10().ceil() as i32);
    (low, high.max(low + 1))
}

/// How far a value is between two powers of ten, from 0 to 1.
fn part(value: f64, (low, high): (i32, i32)) -> f64 {
    (value.log10() - f64::from(low)) / f64::from(high - low)
}

/// A count with commas.
fn grouped(count: f64) -> String {
    let digits = format!("{count:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_times_as_much_is_as_far_everywhere() {
        let line = PlotLine { name: "a < b".to_owned(), points: vec![(1e3, 1.0), (1e4, 10.0), (1e5, 100.0)] };
        let svg = picture("latency", &[line]);
        assert!(svg.contains("a &lt; b") && svg.contains("100,000 pods"), "{svg}");
        assert!(svg.contains(r#"d="M70.0 375.0L270.0 207.5L470.0 40.0""#), "{svg}");
    }

    #[test]
    fn what_is_below_the_networks_own_time_is_at_the_edge() {
        let line = PlotLine { name: "fast".to_owned(), points: vec![(1e3, -0.2)] };
        assert!(picture("latency", &[line]).contains("M70.0 375.0"));
    }
}
