//! The kernel's messages about a table, read back as the statements that this program writes; anything else is `None`.

use super::numbers::{base_number, comparison_number, hook_number, key_type, meta_number};
use super::wire::*;
use crate::kernel::netlink::{Attribute, attributes, exact, find, text};
use crate::netfilter::nftables::{
    Base, Chain, Comparison, Elements, Field, Hook, HookPoint, KeyPart, Meta, Rule, SetKind, SetPurpose,
    Statement, Verdict,
};

fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    find(bytes, kind).and_then(exact).map(u32::from_be_bytes)
}

fn name(bytes: &[u8], kind: u16) -> Option<Box<str>> {
    find(bytes, kind).and_then(text).map(Into::into)
}

/// Whether a message is about this table.
pub(super) fn is_of(message: &[u8], table: &str) -> bool {
    find(message, OF_TABLE).and_then(text) == Some(table)
}

/// The name of a chain and how packets enter it. The outer `None`: a chain that this program does not write.
pub(super) fn chain(message: &[u8]) -> Option<(Box<str>, Chain)> {
    let name = name(message, CHAIN_NAME)?;
    let base = match find(message, CHAIN_HOOK) {
        None => None,
        Some(hook) => {
            let wanted = number(hook, HOOK_NUMBER)?;
            let point = HookPoint::ALL.into_iter().find(|point| hook_number(*point) == wanted)?;
            let priority = find(hook, HOOK_PRIORITY).and_then(exact).map(i32::from_be_bytes)?;
            let is_filter = find(message, CHAIN_TYPE).and_then(text) == Some("filter");
            let accepts = number(message, CHAIN_POLICY) == Some(NF_ACCEPT as u32);
            Some(Hook { point, priority }).filter(|_| is_filter && accepts).map(Some)?
        }
    };
    Some((name, Chain { base, rules: Vec::new() }))
}

/// The chain of a rule, and the rule; how many packets its counter counted.
pub(super) fn rule(message: &[u8]) -> Option<(Box<str>, Rule, u64)> {
    let chain = name(message, RULE_CHAIN)?;
    let mut reader = Reader { expressions: Vec::new(), counted: 0 };
    for element in attributes(find(message, RULE_EXPRESSIONS)?) {
        let expression = text(find(element.payload, EXPRESSION_NAME)?)?;
        reader.expressions.push((expression, find(element.payload, EXPRESSION_DATA).unwrap_or_default()));
    }
    reader.expressions.reverse();
    let mut statements = Vec::new();
    while !reader.expressions.is_empty() {
        statements.push(reader.statement()?);
    }
    Some((chain, Rule(statements), reader.counted))
}

type MaskAndXor = (Box<[u8]>, Box<[u8]>);

/// The expressions of a rule that are still to be read, the next one last.
struct Reader<'a> {
    expressions: Vec<(&'a str, &'a [u8])>,
    counted: u64,
}

impl<'a> Reader<'a> {
    fn take(&mut self, name: &str) -> Option<&'a [u8]> {
        let (_, data) = self.expressions.pop_if(|(own, _)| *own == name)?;
        Some(data)
    }

    fn statement(&mut self) -> Option<Statement> {
        let (next, _) = *self.expressions.last()?;
        match next {
            "payload" | "meta" => self.of_fields(),
            "counter" => {
                let data = self.take("counter")?;
                self.counted += find(data, COUNTER_PACKETS).and_then(exact).map_or(0, u64::from_be_bytes);
                Some(Statement::Counter)
            }
            "log" => {
                let data = self.take("log")?;
                let group = find(data, LOG_GROUP).and_then(exact).map(u16::from_be_bytes)?;
                Some(Statement::Log { group, prefix: name(data, LOG_PREFIX)? })
            }
            "immediate" => {
                let data = self.take("immediate")?;
                let to_verdict = number(data, IMMEDIATE_DESTINATION) == Some(VERDICT_REGISTER);
                verdict(find(data, IMMEDIATE_DATA)?).filter(|_| to_verdict).map(Statement::Verdict)
            }
            _ => None,
        }
    }

    /// A statement that begins with the loading of fields.
    fn of_fields(&mut self) -> Option<Statement> {
        let (mut fields, mut word) = (Vec::new(), 0);
        while let Some((field, at)) = self.load() {
            if at != register(word) {
                return None;
            }
            word += u32::from(field.length()).div_ceil(4);
            fields.push(field);
        }
        let (next, _) = *self.expressions.last()?;
        match (next, fields.as_slice()) {
            ("bitwise", [Field::Meta(Meta::Mark)]) if self.sets_mark() => self.set_mark(),
            ("bitwise" | "cmp", [field]) => self.compare(*field),
            ("lookup", _) => self.lookup(fields),
            ("dynset", _) => self.limit(fields),
            _ => None,
        }
    }

    fn load(&mut self) -> Option<(Field, u32)> {
        let (next, data) = *self.expressions.last()?;
        let loaded = match next {
            "payload" => {
                let wanted = number(data, PAYLOAD_BASE)?;
                let bases = [Base::Link, Base::Network, Base::Transport];
                let base = bases.into_iter().find(|base| base_number(*base) == wanted)?;
                let byte = |kind| number(data, kind).and_then(|number| u8::try_from(number).ok());
                let field =
                    Field::Payload { base, offset: byte(PAYLOAD_OFFSET)?, length: byte(PAYLOAD_LENGTH)? };
                (field, number(data, PAYLOAD_DESTINATION)?)
            }
            "meta" => {
                let metas = [
                    Meta::Length,
                    Meta::Mark,
                    Meta::InputIndex,
                    Meta::OutputIndex,
                    Meta::TransportProtocol,
                    Meta::PacketType,
                ];
                let wanted = number(data, META_KEY)?;
                let meta = metas.into_iter().find(|meta| meta_number(*meta) == wanted)?;
                (Field::Meta(meta), number(data, META_DESTINATION)?)
            }
            _ => return None,
        };
        self.expressions.pop();
        if loaded.0 == Field::Meta(Meta::Length) {
            let data = self.take("byteorder")?;
            let at = [BYTEORDER_SOURCE, BYTEORDER_DESTINATION].map(|kind| number(data, kind));
            let turned = number(data, BYTEORDER_OPERATION) == Some(BYTEORDER_HTON);
            return Some(loaded).filter(|(_, register)| turned && at == [Some(*register); 2]);
        }
        Some(loaded)
    }

    /// Whether the expression behind the next one writes the mark.
    fn sets_mark(&self) -> bool {
        let behind = self.expressions.len().checked_sub(2).and_then(|at| self.expressions.get(at));
        behind.is_some_and(|(name, data)| *name == "meta" && find(data, META_SOURCE).is_some())
    }

    fn set_mark(&mut self) -> Option<Statement> {
        let (mask, xor) = self.bitwise()?;
        let data = self.take("meta")?;
        let bits = u32::from_ne_bytes(exact(&xor)?);
        let keeps_the_rest = u32::from_ne_bytes(exact(&mask)?) == !bits;
        let writes = number(data, META_KEY) == Some(meta_number(Meta::Mark))
            && number(data, META_SOURCE) == Some(FIRST_REGISTER);
        (keeps_the_rest && writes).then_some(Statement::SetMark(bits))
    }

    fn bitwise(&mut self) -> Option<MaskAndXor> {
        let data = self.take("bitwise")?;
        let in_place = [BITWISE_SOURCE, BITWISE_DESTINATION].map(|kind| number(data, kind));
        let value = |kind| Some(find(find(data, kind)?, DATA_VALUE)?.into());
        let found = (value(BITWISE_MASK)?, value(BITWISE_XOR)?);
        (in_place == [Some(FIRST_REGISTER); 2]).then_some(found)
    }

    fn compare(&mut self, field: Field) -> Option<Statement> {
        let mask = match *self.expressions.last()? {
            ("bitwise", _) => {
                let (mask, xor) = self.bitwise()?;
                Some(mask).filter(|_| xor.iter().all(|byte| *byte == 0)).map(Some)?
            }
            _ => None,
        };
        let data = self.take("cmp")?;
        let wanted = number(data, CMP_OPERATOR)?;
        let comparisons = [Comparison::Equal, Comparison::Different, Comparison::AtMost];
        let comparison = comparisons.into_iter().find(|own| comparison_number(*own) == wanted)?;
        let value: Box<[u8]> = find(find(data, CMP_DATA)?, DATA_VALUE)?.into();
        let fits =
            value.len() == usize::from(field.length()) && number(data, CMP_SOURCE) == Some(FIRST_REGISTER);
        fits.then_some(Statement::Compare { field, mask, comparison, value })
    }

    fn lookup(&mut self, fields: Vec<Field>) -> Option<Statement> {
        let data = self.take("lookup")?;
        let set = name(data, LOOKUP_SET)?;
        if number(data, LOOKUP_SOURCE) != Some(FIRST_REGISTER) {
            return None;
        }
        match number(data, LOOKUP_DESTINATION) {
            Some(VERDICT_REGISTER) => Some(Statement::VerdictOf { fields, map: set }),
            Some(_) => None,
            None => {
                let inverted = number(data, LOOKUP_FLAGS).unwrap_or_default() & LOOKUP_IS_INVERTED != 0;
                Some(Statement::In { fields, set, inverted })
            }
        }
    }

    fn limit(&mut self, fields: Vec<Field>) -> Option<Statement> {
        let data = self.take("dynset")?;
        let expression = find(data, DYNSET_EXPRESSION)?;
        let is_limit = text(find(expression, EXPRESSION_NAME)?)? == "limit";
        let limit = find(expression, EXPRESSION_DATA)?;
        let long = |kind| find(limit, kind).and_then(exact).map(u64::from_be_bytes);
        let fits = is_limit
            && number(data, DYNSET_OPERATION) == Some(DYNSET_UPDATE)
            && number(data, DYNSET_KEY) == Some(FIRST_REGISTER)
            && long(LIMIT_UNIT) == Some(1);
        let (per_second, burst) = (u32::try_from(long(LIMIT_RATE)?).ok()?, number(limit, LIMIT_BURST)?);
        fits.then_some(Statement::Limit { fields, set: name(data, DYNSET_SET)?, per_second, burst })
    }
}

/// The name of a set and what it is.
pub(super) fn set(message: &[u8]) -> Option<(Box<str>, SetKind)> {
    let name = name(message, SET_NAME)?;
    let flags = number(message, SET_FLAGS).unwrap_or_default();
    let purpose = match flags {
        0 => SetPurpose::Set,
        SET_IS_MAP => SetPurpose::VerdictMap,
        flags if flags == SET_HAS_TIMEOUT | SET_IS_DYNAMIC => {
            let timeout_ms = find(message, SET_TIMEOUT).and_then(exact).map(u64::from_be_bytes)?;
            SetPurpose::Dynamic { timeout_ms }
        }
        _ => return None,
    };
    let size = find(message, SET_DESCRIPTION).and_then(|own| number(own, DESCRIPTION_SIZE))?;
    let wanted = number(message, SET_KEY_TYPE)?;
    let mut key = Vec::new();
    for place in (0..4).rev() {
        let part = wanted >> (6 * place) & 0x3f;
        if part == 0 && key.is_empty() {
            continue;
        }
        let parts = [KeyPart::Interface, KeyPart::Ipv4, KeyPart::Ipv6, KeyPart::Ethernet];
        key.push(parts.into_iter().find(|own| own.number() == part)?);
    }
    let kind = SetKind { key, purpose, size };
    let same = number(message, SET_KEY_LENGTH) == Some(kind.key_length()) && key_type(&kind) == wanted;
    same.then_some((name, kind))
}

/// Adds the elements of a message. `None` if one of them cannot be read.
pub(super) fn elements(message: &[u8], into: &mut Elements) -> Option<()> {
    for element in attributes(find(message, ELEMENTS)?) {
        let (key, verdict) = one_element(&element)?;
        into.insert(key, verdict);
    }
    Some(())
}

fn one_element(element: &Attribute<'_>) -> Option<(Box<[u8]>, Option<Verdict>)> {
    let key = find(find(element.payload, ELEMENT_KEY)?, DATA_VALUE)?;
    let verdict = match find(element.payload, ELEMENT_DATA) {
        None => None,
        Some(data) => Some(verdict(data)?),
    };
    Some((key.into(), verdict))
}

fn verdict(data: &[u8]) -> Option<Verdict> {
    let verdict = find(data, DATA_VERDICT)?;
    let code = find(verdict, VERDICT_CODE).and_then(exact).map(i32::from_be_bytes)?;
    match (code, name(verdict, VERDICT_CHAIN)) {
        (NF_DROP, None) => Some(Verdict::Drop),
        (NF_ACCEPT, None) => Some(Verdict::Accept),
        (NFT_RETURN, None) => Some(Verdict::Return),
        (NFT_JUMP, Some(chain)) => Some(Verdict::Jump(chain)),
        (NFT_GOTO, Some(chain)) => Some(Verdict::Goto(chain)),
        _ => None,
    }
}

/// The number of the last transaction of this network namespace.
pub(super) fn generation(message: &[u8]) -> Option<u32> {
    number(message, GENERATION_ID)
}
