//! The required and the measured values, as one table for all sizes and controllers.

use serde_json::Value;
use std::fmt::Write;

/// Which of a figure's samples must meet the requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Statistic {
    Middle,
    P99,
    Greatest,
}

/// A figure, and its required value.
struct Promise {
    figure: &'static str,
    part: Statistic,
    must: &'static str,
    aim: &'static str,
}

const fn promise(figure: &'static str, part: Statistic, must: &'static str, aim: &'static str) -> Promise {
    Promise { figure, part, must, aim }
}

/// For a cluster of 10,000 pods and 1,000 policies, and a hundred pods on the node.
const PROMISES: [Promise; 17] = [
    promise("remote pod's event: bytes read → last netlink ACK", Statistic::Middle, "≤ 0.3 ms", "0.1"),
    promise("remote pod's event: bytes read → last netlink ACK", Statistic::P99, "≤ 2 ms", "1"),
    promise("remote pod up → first packet passes", Statistic::Middle, "≤ 4 ms", "1"),
    promise("remote pod up → first packet passes", Statistic::P99, "≤ 15 ms", "5"),
    promise("remote pod relabelled → last packet passed", Statistic::Middle, "≤ 4 ms", "1"),
    promise("policy created → last packet passed", Statistic::Middle, "≤ 60 ms", "30"),
    promise("policy created → last packet passed", Statistic::Greatest, "≤ 120 ms", "60"),
    promise("local pod starts → last packet passed", Statistic::Middle, "≤ 60 ms", "30"),
    promise("CPU for a remote pod's event", Statistic::Middle, "≤ 1 ms", "0.15"),
    promise("resident memory in the end, highest", Statistic::Greatest, "≤ 32 MiB", "16"),
    promise("start on an empty kernel → last packet passed", Statistic::Middle, "≤ 2 s", "1"),
    promise("start on a correct kernel → enforced", Statistic::Middle, "≤ 1 s", "0.3"),
    promise("start on a correct kernel: kernel writes", Statistic::Greatest, "0", "0"),
    promise(
        "backlog of events taken in, by a second of its own time",
        Statistic::Middle,
        "≥ 2,000 /s",
        "10,000",
    ),
    promise("1,000 irrelevant updates/s: of a core", Statistic::Middle, "≤ 5 %", "2"),
    promise(
        "connections: a guarded pod, against one that no policy selects",
        Statistic::Middle,
        "≥ 0.95",
        "0.98",
    ),
    promise("ten policies a second: xtables lock not to be had", Statistic::Middle, "< 5 %", "1"),
];

/// The table. Each of `measured` contains the figures of one size.
pub(crate) fn table(measured: &[Value]) -> String {
    let mut columns = Vec::<(&str, &Value)>::new();
    for size in measured {
        for figure in figures(size) {
            let controller = figure["controller"].as_str().unwrap_or_default();
            if !columns.iter().any(|(known, of)| *known == controller && of["size"] == size["size"]) {
                columns.push((controller, size));
            }
        }
    }
    // All sizes of one controller are adjacent, beginning with the first controller.
    let first = columns.first().map(|(controller, _)| *controller);
    columns.sort_by_key(|(controller, _)| Some(*controller) != first);
    let mut text = String::from("| | must | aim |");
    for (controller, size) in &columns {
        let _ = write!(text, " {controller}, {} pods |", size["size"].as_str().unwrap_or_default());
    }
    let _ = writeln!(text, "\n|:--|--:|--:|{}", "--:|".repeat(columns.len()));
    for Promise { figure, part, must, aim } in &PROMISES {
        let (key, word) = match part {
            Statistic::Middle => ("p50", ""),
            Statistic::P99 => ("p99", ", p99"),
            Statistic::Greatest => ("max", ", at most"),
        };
        let _ = write!(text, "| {figure}{word} | {must} | {aim} |");
        for (controller, size) in &columns {
            let it = figures(size).find(|one| one["figure"] == *figure && one["controller"] == *controller);
            let value = it.and_then(|one| one[key].as_f64());
            let _ = write!(text, " {} |", value.map(crate::figure::number).unwrap_or_default());
        }
        text.push('\n');
    }
    text
}

fn figures(size: &Value) -> impl Iterator<Item = &Value> {
    size["figures"].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn controllers_stand_beside_what_must_be_reached() {
        let figure = |controller: &str, p50: f64| json!({"controller": controller, "figure": "CPU for a remote pod's event", "p50": p50});
        let measured = ["1k", "10k"]
            .map(|size| json!({"size": size, "figures": [figure("own", 0.15), figure("peer", 333.0)]}));
        let table = table(&measured);
        assert!(table.starts_with("| | must | aim | own, 1k pods | own, 10k pods | peer, 1k pods | peer"));
        let row = "| CPU for a remote pod's event | ≤ 1 ms | 0.15 | 0.150 | 0.150 | 333 | 333 |";
        assert!(table.contains(row), "{table}");
    }
}
