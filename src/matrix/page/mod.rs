//! The matrix as one page of HTML that needs nothing else: with a filter, a graph, and the policies behind each cell.

use super::matrix::{MatrixEnd, ReachMatrix};
use crate::model::{Direction, PolicyKey, Snapshot};
use crate::net::Family;
use crate::reach::{DirectionReason, Reach};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The page, in which [`PLACE`] is replaced by its data.
const PAGE: &str = include_str!("page.html");
const PLACE: &str = "DATA";

/// Values that are written once, by their number.
#[derive(Default)]
struct Once {
    numbers: BTreeMap<String, usize>,
    values: Vec<Value>,
}

impl Once {
    fn number(&mut self, value: Value) -> usize {
        let next = self.values.len();
        let number = *self.numbers.entry(value.to_string()).or_insert(next);
        if number == next {
            self.values.push(value);
        }
        number
    }
}

pub(super) fn of(snapshot: &Snapshot, reach: &Reach, matrix: &ReachMatrix<'_>) -> String {
    let (mut words, mut reasons) = (Once::default(), Once::default());
    let mut cells = Vec::with_capacity(matrix.sources.len() * matrix.destinations.len());
    for (row, source) in matrix.sources.iter().enumerate() {
        for (column, destination) in matrix.destinations.iter().enumerate() {
            let Some(cell) = matrix.cell(row, column) else {
                cells.push(Value::Null);
                continue;
            };
            let family = if cell.v4.is_some() { Family::V4 } else { Family::V6 };
            let mut reason = |direction| {
                let reason = reach.reason(source.class, destination.class, family, direction)?;
                Some(reasons.number(of_reason(snapshot, direction, &reason)))
            };
            let egress = if source.is_outside() { None } else { reason(Direction::Egress) };
            let ingress = if destination.is_outside() { None } else { reason(Direction::Ingress) };
            cells.push(json!([words.number(json!(cell.words())), egress, ingress]));
        }
    }
    let ends = |ends: &[MatrixEnd], direction: usize| -> Vec<Value> {
        let of = |end: &MatrixEnd| {
            let isolated = end.isolated.is_some_and(|isolated| isolated[direction]);
            json!({"name": end.label(), "namespace": end.namespace(), "isolated": isolated})
        };
        ends.iter().map(of).collect()
    };
    let data = json!({
        "sources": ends(&matrix.sources, 0),
        "destinations": ends(&matrix.destinations, 1),
        "words": words.values,
        "reasons": reasons.values,
        "cells": cells,
    });
    // Nothing in the data can end the element that it is in.
    PAGE.replacen(PLACE, &data.to_string().replace('<', "\\u003c"), 1)
}

fn of_reason(snapshot: &Snapshot, direction: Direction, reason: &DirectionReason) -> Value {
    let origin = |key: &PolicyKey| snapshot.origins.get(key);
    let policy = |key: &PolicyKey| match origin(key) {
        Some(origin) => format!("{key} ({origin})"),
        None => key.to_string(),
    };
    let allowing = reason.allowing.iter().map(|rule| {
        let place = format!("{} {direction}[{}]", rule.policy, rule.rule);
        let place = match origin(&rule.policy) {
            Some(origin) => format!("{place} ({})", origin.of_rule(direction, rule.rule)),
            None => place,
        };
        json!({"rule": place, "ports": rule.ports.to_string()})
    });
    let isolating: Vec<String> = reason.isolating.iter().map(policy).collect();
    json!({"isolating": isolating, "allowing": allowing.collect::<Vec<_>>()})
}
