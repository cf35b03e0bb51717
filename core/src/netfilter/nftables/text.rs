//! Rules and tables as text from which `nft -f` creates the same table. In a table of family bridge, header fields are
//! written as raw bytes, which `nft` does not compare with typed sets.

use super::field_text::{self, Asked};
use super::{
    Comparison, Hook, HookPoint, RejectWith, Rule, Set, SetKind, SetPurpose, Statement, Table, TableFamily,
    Verdict,
};
use std::fmt;

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

fn operator(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "==",
        Comparison::Different => "!=",
        Comparison::AtMost => "<=",
        Comparison::AtLeast => ">=",
    }
}

fn compare(statement: &Statement, asked: Asked) -> Option<String> {
    let Statement::Compare { field, mask, comparison, value } = statement else { return None };
    let (word, kind) = field_text::field(*field, asked);
    let is_zero = value.iter().all(|byte| *byte == 0);
    let any_bit = mask.as_ref().filter(|_| *comparison == Comparison::Different && is_zero);
    if let Some(names) = any_bit.and_then(|mask| field_text::names(kind, mask)) {
        return Some(format!("{word} {names}"));
    }
    let (value, operator) = (field_text::value(kind, value), operator(*comparison));
    Some(match (mask, comparison, kind) {
        (Some(mask), _, _) => format!("{word} & {} {operator} {value}", field_text::value(kind, mask)),
        // Without an operator, nft would match any of the bits.
        (None, Comparison::Equal, field_text::Value::NamedBits(_)) => format!("{word} == {value}"),
        (None, Comparison::Equal, _) => format!("{word} {value}"),
        (None, _, _) => format!("{word} {operator} {value}"),
    })
}

/// Two statements that match a range together.
fn range(first: &Statement, last: Option<&Statement>, asked: Asked) -> Option<String> {
    let last = last.filter(|last| first.begins_range(last))?;
    match (first, last) {
        (Statement::Compare { field, value: first, .. }, Statement::Compare { value: last, .. }) => {
            let (word, kind) = field_text::field(*field, asked);
            Some(format!("{word} {}-{}", field_text::value(kind, first), field_text::value(kind, last)))
        }
        _ => None,
    }
}

fn statement(statement: &Statement, asked: Asked) -> String {
    match statement {
        Statement::Compare { .. } => compare(statement, asked).unwrap_or_default(),
        Statement::In { fields, set, inverted } => {
            format!("{}{} @{set}", field_text::fields(fields, asked), if *inverted { " !=" } else { "" })
        }
        Statement::VerdictOf { fields, map } => format!("{} vmap @{map}", field_text::fields(fields, asked)),
        Statement::Limit { fields, set, per_second, burst } => {
            let fields = field_text::fields(fields, asked);
            format!("update @{set} {{ {fields} limit rate {per_second}/second burst {burst} packets }}")
        }
        Statement::Counter => "counter".to_owned(),
        Statement::CountIn(counter) => format!("counter name \"{counter}\""),
        Statement::Log { group, prefix } => format!("log prefix \"{prefix}\" group {group}"),
        Statement::SetMark(bits) => format!("meta mark set meta mark | {bits:#x}"),
        Statement::Verdict(verdict) => verdict.to_string(),
        Statement::Reject(RejectWith::TcpReset) => "reject with tcp reset".to_owned(),
        Statement::Reject(RejectWith::PortUnreachable) => {
            "reject with icmpx type port-unreachable".to_owned()
        }
        Statement::Comment(comment) => format!("comment \"{}\"", comment.as_str()),
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut words, mut asked) = (Vec::new(), Asked::default());
        let mut rest = self.statements().iter().peekable();
        while let Some(next) = rest.next() {
            match range(next, rest.peek().copied(), asked) {
                Some(range) => {
                    words.push(range);
                    rest.next();
                }
                None => words.push(statement(next, asked)),
            }
            asked.note(next);
        }
        f.write_str(&words.join(" "))
    }
}

impl Rule {
    /// The text of the statement at a position, as it is in the rule's text.
    pub fn statement_text(&self, place: usize) -> Option<String> {
        let mut asked = Asked::default();
        let wanted = self.statements().get(place)?;
        self.statements()[..place].iter().for_each(|before| asked.note(before));
        Some(statement(wanted, asked))
    }
}

fn element(kind: &SetKind, key: &[u8]) -> String {
    match kind.purpose {
        SetPurpose::Intervals => match key.split_at(key.len() / 2) {
            (first, last) if first == last => field_text::key(&kind.key, first),
            (first, last) => {
                format!("{}-{}", field_text::key(&kind.key, first), field_text::key(&kind.key, last))
            }
        },
        SetPurpose::Set | SetPurpose::VerdictMap | SetPurpose::Dynamic { .. } => {
            field_text::key(&kind.key, key)
        }
    }
}

fn write_set(f: &mut fmt::Formatter<'_>, name: &str, set: &Set) -> fmt::Result {
    let kind = &set.kind;
    let parts: Vec<_> = kind.key.iter().map(|part| field_text::key_type(*part)).collect();
    let (word, data) = match kind.purpose {
        SetPurpose::VerdictMap => ("map", " : verdict"),
        SetPurpose::Set | SetPurpose::Intervals | SetPurpose::Dynamic { .. } => ("set", ""),
    };
    writeln!(f, "\t{word} {name} {{\n\t\ttype {}{data}", parts.join(" . "))?;
    if kind.size != 0 {
        writeln!(f, "\t\tsize {}", kind.size)?;
    }
    match kind.purpose {
        SetPurpose::Set | SetPurpose::VerdictMap => {}
        SetPurpose::Intervals => writeln!(f, "\t\tflags interval")?,
        SetPurpose::Dynamic { timeout_ms } => {
            writeln!(f, "\t\tflags dynamic,timeout\n\t\ttimeout {timeout_ms}ms")?;
        }
    }
    if !set.elements.is_empty() {
        let elements = set.elements.iter().map(|(key, verdict)| {
            let verdict = verdict.map(|verdict| format!(" : {verdict}")).unwrap_or_default();
            format!("\t\t\t{}{verdict}", element(kind, key))
        });
        let elements: Vec<_> = elements.collect();
        writeln!(f, "\t\telements = {{\n{}\n\t\t}}", elements.join(",\n"))?;
    }
    writeln!(f, "\t}}")
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HookPoint::Prerouting => "prerouting",
            HookPoint::Input => "input",
            HookPoint::Forward => "forward",
            HookPoint::Output => "output",
        })
    }
}

fn write_hook(f: &mut fmt::Formatter<'_>, hook: Hook) -> fmt::Result {
    let point = hook.point;
    writeln!(f, "\t\ttype filter hook {point} priority {}; policy accept;", hook.priority)
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            TableFamily::Inet => "inet",
            TableFamily::Bridge => "bridge",
        };
        writeln!(f, "table {family} {} {{", self.name)?;
        for counter in &self.counters {
            writeln!(f, "\tcounter {counter} {{\n\t}}")?;
        }
        for (name, set) in &self.sets {
            write_set(f, name, set)?;
        }
        for (name, chain) in &self.chains {
            writeln!(f, "\tchain {name} {{")?;
            if let Some(hook) = chain.base {
                write_hook(f, hook)?;
            }
            chain.rules.iter().try_for_each(|rule| writeln!(f, "\t\t{rule}"))?;
            writeln!(f, "\t}}")?;
        }
        f.write_str("}\n")
    }
}
