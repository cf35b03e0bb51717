//! Checks whether the kernel accepts a table.

use super::{Field, Refused, Rule, SetPurpose, Statement, Table, TableFamily, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// How many chains may be nested behind a base chain: NFT_JUMP_STACK_SIZE of the kernel also counts the base chain.
pub(super) const DEEPEST: usize = 15;

fn target(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
        Verdict::Accept | Verdict::Drop | Verdict::Return => None,
    }
}

/// All statements of a table.
pub(super) fn statements(table: &Table) -> impl Iterator<Item = &Statement> {
    table.chains.values().flat_map(|chain| &chain.rules).flat_map(Rule::statements)
}

/// The set that a statement reads or fills, and its fields.
pub(super) fn asked_set(statement: &Statement) -> Option<(&str, &[Field])> {
    match statement {
        Statement::In { set, fields, .. }
        | Statement::Limit { set, fields, .. }
        | Statement::VerdictOf { map: set, fields } => Some((set, fields)),
        Statement::Compare { .. }
        | Statement::Counter
        | Statement::CountIn(_)
        | Statement::Log { .. }
        | Statement::SetMark(_)
        | Statement::Verdict(_)
        | Statement::Reject(_)
        | Statement::Comment(_) => None,
    }
}

fn map_targets<'a>(table: &'a Table, map: &str) -> impl Iterator<Item = &'a str> {
    let elements = table.sets.get(map).into_iter().flat_map(|set| set.elements.verdicts());
    elements.filter_map(target)
}

/// The chains to which a table's rules and maps jump.
pub(super) fn targets(table: &Table) -> BTreeSet<&str> {
    let of_rules = statements(table).filter_map(|statement| {
        if let Statement::Verdict(verdict) = statement { target(verdict) } else { None }
    });
    of_rules.chain(table.sets.keys().flat_map(|map| map_targets(table, map))).collect()
}

/// Checks whether the kernel accepts a table as it is.
pub(super) fn check(table: &Table) -> Result<(), Refused> {
    for (name, chain) in &table.chains {
        chain.rules.iter().try_for_each(|rule| check_rule(table, name, rule))?;
    }
    let verdicts = table.sets.values().flat_map(|set| set.elements.verdicts());
    verdicts.into_iter().try_for_each(|verdict| check_verdict(table, verdict))?;
    check_depth(table)
}

/// Checks whether the kernel accepts a rule of a chain of this table.
pub(super) fn check_rule(table: &Table, chain: &str, rule: &Rule) -> Result<(), Refused> {
    let last = rule.statements().len().saturating_sub(1);
    for (place, statement) in rule.statements().iter().enumerate() {
        let is_misplaced = matches!(statement, Statement::Comment(_)) && place != last;
        if is_misplaced || !is_sound(table, statement)? {
            return Err(Refused::Senseless(chain.into()));
        }
    }
    Ok(())
}

/// Checks whether the kernel accepts a verdict in this table.
pub(super) fn check_verdict(table: &Table, verdict: &Verdict) -> Result<(), Refused> {
    let Some(name) = target(verdict) else { return Ok(()) };
    let chain = table.chains.get(name).ok_or_else(|| Refused::NoChain(name.into()))?;
    if chain.base.is_some() { Err(Refused::Base(name.into())) } else { Ok(()) }
}

/// Whether a statement fits what it refers to.
fn is_sound(table: &Table, statement: &Statement) -> Result<bool, Refused> {
    if let Some((set, fields)) = asked_set(statement) {
        let kind = &table.sets.get(set).ok_or_else(|| Refused::NoSet(set.into()))?.kind;
        let length = match fields {
            [only] => u32::from(only.length()),
            fields => fields.iter().map(|field| u32::from(field.length()).next_multiple_of(4)).sum(),
        };
        let suits = matches!(
            (statement, kind.purpose),
            (Statement::VerdictOf { .. }, SetPurpose::VerdictMap)
                | (Statement::Limit { .. }, SetPurpose::Dynamic { .. })
                | (
                    Statement::In { .. },
                    SetPurpose::Set | SetPurpose::Intervals | SetPurpose::Dynamic { .. }
                )
        );
        let exist = fields.iter().all(|field| is_of_family(*field, table.family));
        return Ok(suits && exist && length == kind.key_length());
    }
    Ok(match statement {
        Statement::Compare { field, mask, value, .. } => {
            let length = usize::from(field.length());
            let fits = value.len() == length && mask.as_ref().is_none_or(|mask| mask.len() == length);
            fits && is_of_family(*field, table.family)
        }
        Statement::CountIn(counter) if !table.counters.contains(counter) => {
            return Err(Refused::NoCounter(counter.clone()));
        }
        Statement::Reject(_) => table.family == TableFamily::Inet,
        Statement::Verdict(verdict) => {
            check_verdict(table, verdict)?;
            true
        }
        Statement::In { .. }
        | Statement::VerdictOf { .. }
        | Statement::Limit { .. }
        | Statement::Counter
        | Statement::CountIn(_)
        | Statement::Log { .. }
        | Statement::SetMark(_)
        | Statement::Comment(_) => true,
    })
}

fn is_of_family(field: Field, family: TableFamily) -> bool {
    match field {
        Field::Connection(_) | Field::SourceAddressType => family == TableFamily::Inet,
        Field::Payload { .. } | Field::Meta(_) => true,
    }
}

/// Follows the jumps from all base chains at once, one level after the other.
fn check_depth(table: &Table) -> Result<(), Refused> {
    let leads: BTreeMap<&str, BTreeSet<&str>> = table
        .chains
        .iter()
        .map(|(name, chain)| {
            let statements = chain.rules.iter().flat_map(Rule::statements);
            let led = statements.flat_map(|statement| {
                let verdict =
                    if let Statement::Verdict(verdict) = statement { target(verdict) } else { None };
                let map = if let Statement::VerdictOf { map, .. } = statement { Some(map) } else { None };
                verdict.into_iter().chain(map.into_iter().flat_map(|map| map_targets(table, map)))
            });
            (&**name, led.collect())
        })
        .collect();
    let is_base = |name: &&str| table.chains.get(*name).is_some_and(|chain| chain.base.is_some());
    let mut reached: BTreeSet<&str> = leads.keys().copied().filter(is_base).collect();
    for _ in 0..=DEEPEST {
        reached = reached.iter().flat_map(|name| leads.get(name)).flatten().copied().collect();
    }
    match reached.first() {
        Some(name) => Err(Refused::TooDeep((*name).into())),
        None => Ok(()),
    }
}
