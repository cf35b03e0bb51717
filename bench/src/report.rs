//! What is left of a run: figures as JSON and as a table.

use crate::figure::Figures;
use anyhow::{Context, Result};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::path::Path;

/// Writes the figures of a size into `out`, and tells the table.
pub(crate) fn write(out: &Path, size: &str, described: &str, figures: &Figures) -> Result<()> {
    let table = format!("{described}; {}\n\n{}", machine(), figures.markdown());
    let all = json!({"size": size, "cluster": described, "machine": machine(), "figures": figures.json()});
    for (name, text) in [("json", serde_json::to_string_pretty(&all)? + "\n"), ("md", table.clone())] {
        let path = out.join(format!("{size}.{name}"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    write!(std::io::stdout(), "{table}").context("cannot tell the figures")
}

/// On what it was measured.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let models = info.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let models: Vec<&str> = models.map(|(_, model)| model).collect();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{} × {}, Linux {}", models.len(), models.first().unwrap_or(&"?"), kernel.trim())
}
