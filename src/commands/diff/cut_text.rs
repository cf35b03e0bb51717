//! The live connections that would be cut, for people and programs.

use super::cut::CutConnections;
use crate::commands::agents::report_silent;
use crate::flow::FlowEnd;
use serde_json::{Value, json};
use std::io::{self, Write};

impl CutConnections {
    /// How many connections would be cut.
    fn count(&self) -> u64 {
        self.cut.iter().map(|flow| flow.connections).sum()
    }

    fn heading(&self) -> String {
        format!("{} of {} live connections would be cut", self.count(), self.judged)
    }

    pub(super) fn print_table(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.heading())?;
        self.cut.iter().try_for_each(|flow| match flow.connections {
            1 => writeln!(out, "x {flow}"),
            count => writeln!(out, "x {flow}, {count} connections"),
        })
    }

    pub(super) fn print_markdown(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\n#### {}", self.heading())?;
        if self.cut.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n| from | to | port | connections |\n|:--|:--|:--|--:|")?;
        self.cut.iter().try_for_each(|flow| {
            let [from, to] = [&flow.source, &flow.destination].map(words);
            writeln!(out, "| {from} | {to} | {}/{} | {} |", flow.port, flow.protocol, flow.connections)
        })
    }

    /// The same as docs/reach-difference.schema.json describes it.
    pub(super) fn json(&self) -> Value {
        let end = |end: &FlowEnd| {
            let mut value = json!({ "address": end.address.to_string() });
            if let (Some(namespace), Some(pod)) = (&end.namespace, &end.pod) {
                value["pod"] = format!("{namespace}/{pod}").into();
            }
            value
        };
        let cut = self.cut.iter().map(|flow| {
            json!({
                "source": end(&flow.source),
                "destination": end(&flow.destination),
                "protocol": flow.protocol,
                "port": flow.port,
                "connections": flow.connections,
            })
        });
        json!({
            "cut": cut.collect::<Vec<Value>>(),
            "judged": self.judged,
            "unjudged": self.unjudged,
            "leftOut": self.left_out,
            "silentNodes": self.silent.iter().map(|(node, _)| node).collect::<Vec<_>>(),
        })
    }

    /// Says on stderr which connections are not among those that were judged.
    pub(super) fn note_what_is_left_out(&self) {
        let mut stderr = io::stderr();
        self.silent.iter().for_each(|(node, why)| report_silent(node, why));
        if self.unjudged > 0 {
            let _ = writeln!(
                stderr,
                "note: {} live connections were not judged, because a pod at an end is not in both states",
                self.unjudged
            );
        }
        if self.left_out > 0 {
            let _ = writeln!(
                stderr,
                "warning: {} live connections were not judged, because agents have more than they report",
                self.left_out
            );
        }
    }
}

fn words(end: &FlowEnd) -> String {
    match end.pod {
        Some(_) => format!("{end} ({})", end.address),
        None => end.address.to_string(),
    }
}
