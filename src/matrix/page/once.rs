//! Values that are written once and referred to by number.

use serde_json::Value;
use std::collections::BTreeMap;

/// Values that are written once, by their number.
#[derive(Default)]
pub(super) struct Once {
    numbers: BTreeMap<String, usize>,
    values: Vec<Value>,
}

impl Once {
    pub(super) fn number(&mut self, value: Value) -> usize {
        let next = self.values.len();
        let number = *self.numbers.entry(value.to_string()).or_insert(next);
        if number == next {
            self.values.push(value);
        }
        number
    }

    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }
}
