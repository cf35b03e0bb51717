//! The results of a run: figures as JSON and as a table, and a picture of all sizes that have been measured.

use crate::figure::Figures;
use crate::plot::{PlotLine, picture};
use crate::promise;
use crate::size;
use crate::trial::{policy, remote};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::Path;

/// The figures that are drawn.
const DRAWN: [(&str, &str); 3] = [
    (remote::UP, "remote pod up"),
    (remote::RELABELLED, "remote pod relabelled"),
    (policy::CREATED, "policy created"),
];

/// Writes the figures of a size into `out`, and prints the table.
pub(crate) fn write(out: &Path, size: &str, described: &str, figures: &Figures) -> Result<()> {
    let table = table(described, figures);
    let pods = size::of(size)?.pods;
    let all = json!({"size": size, "pods": pods, "cluster": described, "machine": machine(), "figures": figures.json()});
    for (name, text) in [("json", serde_json::to_string_pretty(&all)? + "\n"), ("md", table.clone())] {
        let path = out.join(format!("{size}.{name}"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let path = out.join("latency.svg");
    let title = "From the API's answer until it holds, median";
    fs::write(&path, picture(title, &lines(&measured(out))))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let path = out.join("performance.md");
    fs::write(&path, promise::table(&measured(out)))
        .with_context(|| format!("cannot write {}", path.display()))?;
    write!(std::io::stdout(), "{table}").context("cannot print the figures")
}

/// Prints the table of figures that do not belong to a run on an API server.
pub(crate) fn print(described: &str, figures: &Figures) -> Result<()> {
    write!(std::io::stdout(), "{}", table(described, figures)).context("cannot print the figures")
}

fn table(described: &str, figures: &Figures) -> String {
    format!("{described}; {}\n\n{}", machine(), figures.markdown())
}

/// The figures of every size that was measured.
fn measured(out: &Path) -> Vec<Value> {
    let read = |name| serde_json::from_slice(&fs::read(out.join(format!("{name}.json"))).ok()?).ok();
    size::NAMES.into_iter().filter_map(read).collect()
}

/// A line for each controller and each figure that is drawn.
fn lines(measured: &[Value]) -> Vec<PlotLine> {
    let mut lines = Vec::<PlotLine>::new();
    for size in measured {
        for figure in size["figures"].as_array().into_iter().flatten() {
            let drawn = DRAWN.iter().find(|(name, _)| figure["figure"] == *name);
            let (Some((_, word)), Some(pods), Some(middle)) =
                (drawn, size["pods"].as_f64(), figure["p50"].as_f64())
            else {
                continue;
            };
            let name = format!("{}: {word}", figure["controller"].as_str().unwrap_or_default());
            match lines.iter_mut().find(|line| line.name == name) {
                Some(line) => line.points.push((pods, middle)),
                None => lines.push(PlotLine { name, points: vec![(pods, middle)] }),
            }
        }
    }
    lines
}

/// The machine on which it was measured.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let models = info.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let models: Vec<&str> = models.map(|(_, model)| model).collect();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{} × {}, Linux {}", models.len(), models.first().unwrap_or(&"?"), kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_joined_by_controller_and_by_what_is_drawn() {
        let size = |pods: u32, middle: f64| {
            json!({"pods": pods, "figures": [
                {"controller": "own", "figure": remote::UP, "p50": middle},
                {"controller": "own", "figure": "something else", "p50": 1.0},
            ]})
        };
        let points = vec![(1e3, 0.5), (1e4, 0.75)];
        let line = PlotLine { name: "own: remote pod up".to_owned(), points };
        assert_eq!(lines(&[size(1_000, 0.5), size(10_000, 0.75)]), [line]);
    }
}
