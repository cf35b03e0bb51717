//! Figures: what was measured, for which controller, and the required values.

use serde_json::{Value, json};
use std::fmt::Write;

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Microseconds,
    Milliseconds,
    Seconds,
    Bytes,
    Mebibytes,
    Percent,
    PerSecond,
    Ratio,
    Count,
}

impl Unit {
    fn word(self) -> &'static str {
        match self {
            Unit::Microseconds => "µs",
            Unit::Milliseconds => "ms",
            Unit::Seconds => "s",
            Unit::Bytes => "bytes",
            Unit::Mebibytes => "MiB",
            Unit::Percent => "%",
            Unit::PerSecond => "/s",
            Unit::Ratio | Unit::Count => "",
        }
    }
}

/// One measurement of one controller.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) name: String,
    /// The controller.
    pub(crate) controller: String,
    pub(crate) unit: Unit,
    /// The values, in order.
    pub(crate) samples: Vec<f64>,
}

/// The figures so far.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    controllers: Vec<String>,
    figures: Vec<Figure>,
}

impl Figures {
    /// An empty list of figures for these controllers.
    pub(crate) fn of(controllers: Vec<String>) -> Figures {
        Figures { controllers, figures: Vec::new() }
    }

    /// Adds one value.
    pub(crate) fn add(&mut self, controller: &str, name: &str, unit: Unit, value: f64) {
        self.add_samples(controller, name, unit, vec![value]);
    }

    /// Adds samples; they are appended to existing ones of the same figure.
    pub(crate) fn add_samples(&mut self, controller: &str, name: &str, unit: Unit, samples: Vec<f64>) {
        let same = |figure: &Figure| figure.controller == controller && figure.name == name;
        let at = self.figures.iter().position(same).unwrap_or_else(|| {
            let (name, controller) = (name.to_owned(), controller.to_owned());
            self.figures.push(Figure { name, controller, unit, samples: Vec::new() });
            self.figures.len() - 1
        });
        let figure = &mut self.figures[at];
        figure.samples.extend(samples);
        figure.samples.sort_by(f64::total_cmp);
        crate::say(&format!("{controller}: {name}: {}", figure.text()));
    }

    /// A table with a column for each controller.
    pub(crate) fn markdown(&self) -> String {
        let mut names = Vec::<&str>::new();
        for figure in &self.figures {
            if !names.contains(&figure.name.as_str()) {
                names.push(&figure.name);
            }
        }
        let (heads, rule) = (self.controllers.join(" | "), "--:|".repeat(self.controllers.len()));
        let mut text = format!("| | {heads} |\n|:--|{rule}\n");
        for name in names {
            let cell = |controller: &String| {
                let is_it = |figure: &&Figure| figure.name == name && figure.controller == *controller;
                self.figures.iter().find(is_it).map(Figure::text).unwrap_or_default()
            };
            let cells: Vec<String> = self.controllers.iter().map(cell).collect();
            let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
        }
        text
    }

    /// A list of objects.
    pub(crate) fn json(&self) -> Value {
        let figures = self.figures.iter().map(|figure| {
            json!({
                "figure": figure.name,
                "controller": figure.controller,
                "unit": figure.unit.word(),
                "samples": figure.samples.len(),
                "min": figure.quantile(0.0),
                "p50": figure.quantile(0.5),
                "p99": figure.quantile(0.99),
                "max": figure.quantile(1.0),
            })
        });
        figures.collect()
    }
}

impl Figure {
    /// The smallest sample that is not below this fraction of them.
    fn quantile(&self, part: f64) -> f64 {
        let rank = (part * self.samples.len() as f64).ceil() as usize;
        self.samples.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    /// The median, and the p99 if there are at least a hundred samples, otherwise the maximum.
    fn text(&self) -> String {
        let middle = number(self.quantile(0.5));
        let text = match self.samples.len() {
            0 | 1 => middle,
            2..100 => format!("{middle} (at most {})", number(self.quantile(1.0))),
            _ => format!("{middle} (p99 {})", number(self.quantile(0.99))),
        };
        format!("{text} {}", self.unit.word()).trim_end().to_owned()
    }
}

/// Three significant digits, without a unit.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        _ if value.fract() == 0.0 => 0,
        0.0..0.995 => 3,
        0.995..9.95 => 2,
        9.95..99.5 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_p99_are_samples() {
        let mut figures = Figures::of(vec!["a".to_owned(), "b".to_owned()]);
        figures.add_samples("a", "x", Unit::Count, (101..=200).rev().map(f64::from).collect());
        figures.add_samples("a", "x", Unit::Count, (1..=100).map(f64::from).collect());
        figures.add("b", "x", Unit::Milliseconds, 0.25);
        figures.add("b", "y", Unit::Milliseconds, 12.5);
        let table = "| | a | b |\n|:--|--:|--:|\n| x | 100 (p99 198) | 0.250 ms |\n| y |  | 12.5 ms |\n";
        assert_eq!(figures.markdown(), table);
    }
}
