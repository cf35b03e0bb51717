//! Figures, and how they are told.

use serde_json::{Value, json};
use std::fmt::Write;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Milliseconds,
    Microseconds,
    Mebibytes,
    Percent,
    Count,
}

impl Unit {
    fn word(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::Microseconds => "µs",
            Unit::Mebibytes => "MiB",
            Unit::Percent => "%",
            Unit::Count => "",
        }
    }
}

#[derive(Clone, Debug)]
struct Figure {
    name: String,
    unit: Unit,
    /// In order.
    samples: Vec<f64>,
    /// What the median must not exceed.
    limit: Option<f64>,
}

/// The figures so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Vec<Figure>);

impl Figures {
    /// Adds one value.
    pub(crate) fn add(&mut self, name: &str, unit: Unit, value: f64) {
        self.add_samples(name, unit, vec![value]);
    }

    /// Adds a value that must not exceed a limit.
    pub(crate) fn add_limited(&mut self, name: &str, unit: Unit, value: f64, limit: f64) {
        self.add(name, unit, value);
        self.limit(limit);
    }

    /// Adds samples of one thing.
    pub(crate) fn add_samples(&mut self, name: &str, unit: Unit, mut samples: Vec<f64>) {
        samples.sort_by(f64::total_cmp);
        self.0.push(Figure { name: name.to_owned(), unit, samples, limit: None });
    }

    /// Sets what the median of the last figure must not exceed.
    pub(crate) fn limit(&mut self, limit: f64) {
        if let Some(figure) = self.0.last_mut() {
            figure.limit = Some(limit);
        }
    }

    /// A table.
    pub(crate) fn markdown(&self) -> String {
        let mut text =
            String::from("\n| figure | median | p99 | samples | target |\n|:--|--:|--:|--:|:--|\n");
        for figure in &self.0 {
            let number = |value: f64| number(value, figure.unit);
            let p99 = if figure.samples.len() >= 100 { number(figure.quantile(0.99)) } else { String::new() };
            let _ = writeln!(
                text,
                "| {} | {} | {p99} | {} | {} |",
                figure.name,
                number(figure.quantile(0.5)),
                figure.samples.len(),
                figure.verdict(),
            );
        }
        text
    }

    /// A list of objects.
    pub(crate) fn json(&self) -> Value {
        let figures = self.0.iter().map(|figure| {
            json!({
                "figure": figure.name,
                "unit": figure.unit.word(),
                "samples": figure.samples.len(),
                "p50": figure.quantile(0.5),
                "p99": figure.quantile(0.99),
                "max": figure.quantile(1.0),
                "limit": figure.limit,
            })
        });
        figures.collect()
    }
}

impl Figure {
    /// The smallest sample that is not below this part of them.
    fn quantile(&self, part: f64) -> f64 {
        let rank = (part * self.samples.len() as f64).ceil() as usize;
        self.samples.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    fn verdict(&self) -> String {
        let Some(limit) = self.limit else { return String::new() };
        let verdict = if self.quantile(0.5) <= limit { "met" } else { "**missed**" };
        format!("≤ {}: {verdict}", number(limit, self.unit))
    }
}

fn number(value: f64, unit: Unit) -> String {
    let digits = match unit {
        Unit::Microseconds | Unit::Mebibytes | Unit::Percent => 1,
        Unit::Milliseconds => 2,
        Unit::Count if value.fract() == 0.0 => 0,
        Unit::Count => 2,
    };
    format!("{value:.digits$} {}", unit.word()).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_p99_are_samples() {
        let mut figures = Figures::default();
        figures.add_samples("x", Unit::Count, (1..=200).rev().map(f64::from).collect());
        assert!(figures.markdown().contains("| x | 100 | 198 | 200 |"), "{}", figures.markdown());
    }

    #[test]
    fn limit_is_judged_by_the_median() {
        let mut figures = Figures::default();
        figures.add_limited("x", Unit::Mebibytes, 33.0, 32.0);
        assert!(figures.markdown().contains("≤ 32.0 MiB: **missed**"), "{}", figures.markdown());
    }
}
