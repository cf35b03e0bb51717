//! Decodes the kernel's expressions of a rule to statements; `None` for anything that this program does not write.

use super::attribute_set::AttributeSet;
use super::decode_elements::{value, verdict};
use super::numbers::{base_number, comparison_number, connection_number, meta_number, reject_numbers};
use super::wire::*;
use crate::kernel::netlink::{attributes, exact};
use crate::netfilter::nftables::{
    Base, Comparison, ConnectionFact, Field, Meta, RejectWith, Rule, RuleComment, Statement,
};

/// A rule of a chain, and its count.
pub(super) struct ReadRule {
    pub(super) chain: Box<str>,
    pub(super) rule: Rule,
    pub(super) counted: u64,
}

/// Decodes a rule.
pub(super) fn rule(message: &[u8]) -> Option<ReadRule> {
    let mut all = AttributeSet::of(message)?;
    all.ignore(&[OF_TABLE, RULE_HANDLE, RULE_POSITION, RULE_PADDING]);
    let chain = all.text(RULE_CHAIN)?;
    let mut reader = Reader { expressions: Vec::new(), counted: 0 };
    let list = all.take(RULE_EXPRESSIONS)?;
    for element in attributes(list) {
        let mut expression = AttributeSet::of(element.payload)?;
        let name = expression.text(EXPRESSION_NAME)?;
        let data = AttributeSet::of(expression.take(EXPRESSION_DATA).unwrap_or_default())?;
        expression.end().filter(|()| element.kind == LIST_ELEMENT)?;
        reader.expressions.push((name, data));
    }
    if attributes(list).map(|element| element.bytes.len().next_multiple_of(4)).sum::<usize>() < list.len() {
        return None;
    }
    reader.expressions.reverse();
    let mut statements = Vec::new();
    while !reader.expressions.is_empty() {
        let statement = reader.statement(statements.last())?;
        statements.push(statement);
    }
    if let Some(data) = all.take(RULE_USERDATA) {
        statements.push(Statement::Comment(comment(data)?));
    }
    all.end_of_object(RULE_LAST_KNOWN)?;
    Some(ReadRule { chain, rule: statements.into(), counted: reader.counted })
}

fn comment(userdata: &[u8]) -> Option<RuleComment> {
    let [USERDATA_COMMENT, length, text @ .., 0] = userdata else { return None };
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() + 1 == usize::from(*length))?;
    Some(RuleComment::new(text)).filter(|comment| comment.as_str() == text)
}

type MaskAndXor = (Box<[u8]>, Box<[u8]>);

/// The expressions of a rule that are not decoded yet, the next one last.
struct Reader<'a> {
    expressions: Vec<(Box<str>, AttributeSet<'a>)>,
    counted: u64,
}

impl<'a> Reader<'a> {
    fn next(&self) -> Option<&str> {
        self.expressions.last().map(|(name, _)| &**name)
    }

    fn take(&mut self, name: &str) -> Option<AttributeSet<'a>> {
        let (_, data) = self.expressions.pop_if(|(own, _)| **own == *name)?;
        Some(data)
    }

    fn statement(&mut self, before: Option<&Statement>) -> Option<Statement> {
        match self.next()? {
            "payload" | "meta" | "ct" | "fib" => self.of_fields(),
            // The upper end of a range, whose field is already in the register.
            "cmp" => {
                let Some(Statement::Compare { field, .. }) = before else { return None };
                self.compare(*field).filter(|statement| before.is_some_and(|own| own.begins_range(statement)))
            }
            "counter" => {
                let mut data = self.take("counter")?;
                self.counted += data.long(COUNTER_PACKETS)?;
                data.long(COUNTER_BYTES)?;
                data.ignore(&[COUNTER_PADDING]);
                data.end().map(|()| Statement::Counter)
            }
            "objref" => {
                let mut data = self.take("objref")?;
                let is_counter = data.is(OBJECT_REFERENCE_TYPE, OBJECT_IS_COUNTER);
                let counter = data.text(OBJECT_REFERENCE_NAME)?;
                data.end().filter(|()| is_counter).map(|()| Statement::CountIn(counter))
            }
            "log" => {
                let mut data = self.take("log")?;
                let group = data.take(LOG_GROUP).and_then(exact).map(u16::from_be_bytes)?;
                let prefix = data.text(LOG_PREFIX)?;
                data.end().map(|()| Statement::Log { group, prefix })
            }
            "reject" => {
                let mut data = self.take("reject")?;
                let kind = data.number(REJECT_TYPE)?;
                let code = data.take(REJECT_CODE).map(exact::<1>);
                data.end()?;
                let wanted = (kind, code.map(|code| code.map(|[code]| code)));
                let is_wanted = |with: &RejectWith| {
                    let (kind, code) = reject_numbers(*with);
                    (kind, code.map(Some)) == wanted
                };
                RejectWith::ALL.into_iter().find(is_wanted).map(Statement::Reject)
            }
            "immediate" => {
                let mut data = self.take("immediate")?;
                let to_verdict = data.number(IMMEDIATE_DESTINATION) == Some(VERDICT_REGISTER);
                let verdict = verdict(data.take(IMMEDIATE_DATA)?)?;
                data.end().filter(|()| to_verdict).map(|()| Statement::Verdict(verdict))
            }
            _ => None,
        }
    }

    /// Decodes a statement that begins by loading fields.
    fn of_fields(&mut self) -> Option<Statement> {
        let (mut fields, mut word) = (Vec::new(), 0);
        while let Some("payload" | "meta" | "ct" | "fib") = self.next() {
            let (field, at) = self.load()?;
            if at != register(word) {
                return None;
            }
            word += u32::from(field.length()).div_ceil(4);
            fields.push(field);
        }
        match (self.next()?, fields.as_slice()) {
            ("bitwise", [Field::Meta(Meta::Mark)]) if self.sets_mark() => self.set_mark(),
            ("bitwise" | "cmp", [field]) => self.compare(*field),
            ("lookup", _) => self.lookup(fields),
            ("dynset", _) => self.limit(fields),
            _ => None,
        }
    }

    fn load(&mut self) -> Option<(Field, u32)> {
        let (name, mut data) = self.expressions.pop()?;
        let loaded = match &*name {
            "payload" => {
                let wanted = data.number(PAYLOAD_BASE)?;
                let base = Base::ALL.into_iter().find(|base| base_number(*base) == wanted)?;
                let mut byte = |kind| data.number(kind).and_then(|number| u8::try_from(number).ok());
                let (offset, length) = (byte(PAYLOAD_OFFSET)?, byte(PAYLOAD_LENGTH)?);
                (Field::Payload { base, offset, length }, data.number(PAYLOAD_DESTINATION)?)
            }
            "meta" => {
                let wanted = data.number(META_KEY)?;
                let meta = Meta::ALL.into_iter().find(|meta| meta_number(*meta) == wanted)?;
                (Field::Meta(meta), data.number(META_DESTINATION)?)
            }
            "ct" => {
                let wanted = data.number(CONNECTION_KEY)?;
                let fact = ConnectionFact::ALL.into_iter().find(|fact| connection_number(*fact) == wanted)?;
                (Field::Connection(fact), data.number(CONNECTION_DESTINATION)?)
            }
            "fib" => {
                let of_source = data.is(FIB_RESULT, FIB_ADDRESS_TYPE) && data.is(FIB_FLAGS, FIB_OF_SOURCE);
                let register = data.number(FIB_DESTINATION)?;
                Some((Field::SourceAddressType, register)).filter(|_| of_source)?
            }
            _ => return None,
        };
        data.end()?;
        if loaded.0 == Field::Meta(Meta::Length) {
            let mut data = self.take("byteorder")?;
            let at = [BYTEORDER_SOURCE, BYTEORDER_DESTINATION].map(|kind| data.number(kind));
            let turned = data.number(BYTEORDER_OPERATION) == Some(BYTEORDER_HTON)
                && data.number(BYTEORDER_LENGTH) == Some(4)
                && data.number(BYTEORDER_SIZE) == Some(4);
            data.end()?;
            return Some(loaded).filter(|(_, register)| turned && at == [Some(*register); 2]);
        }
        Some(loaded)
    }

    /// Whether the expression after the next one writes the mark.
    fn sets_mark(&self) -> bool {
        let behind = self.expressions.len().checked_sub(2).and_then(|at| self.expressions.get(at));
        behind.is_some_and(|(name, data)| &**name == "meta" && data.has(META_SOURCE))
    }

    fn set_mark(&mut self) -> Option<Statement> {
        let (mask, xor) = self.bitwise(4)?;
        let mut data = self.take("meta")?;
        let bits = u32::from_ne_bytes(exact(&xor)?);
        let keeps_the_rest = u32::from_ne_bytes(exact(&mask)?) == !bits;
        let writes = data.number(META_KEY) == Some(meta_number(Meta::Mark))
            && data.number(META_SOURCE) == Some(FIRST_REGISTER);
        data.end().filter(|()| keeps_the_rest && writes).map(|()| Statement::SetMark(bits))
    }

    fn bitwise(&mut self, length: usize) -> Option<MaskAndXor> {
        let mut data = self.take("bitwise")?;
        let in_place = [BITWISE_SOURCE, BITWISE_DESTINATION].map(|kind| data.number(kind));
        let is_mask = data.is(BITWISE_OPERATION, BITWISE_MASK_AND_XOR);
        let says_length = data.number(BITWISE_LENGTH).and_then(|own| usize::try_from(own).ok());
        let (mask, xor) = (value(data.take(BITWISE_MASK)?)?, value(data.take(BITWISE_XOR)?)?);
        data.end()?;
        let lengths = [says_length, Some(mask.len()), Some(xor.len())];
        let fits = is_mask && in_place == [Some(FIRST_REGISTER); 2] && lengths == [Some(length); 3];
        fits.then(|| (mask.into(), xor.into()))
    }

    fn compare(&mut self, field: Field) -> Option<Statement> {
        let length = usize::from(field.length());
        let mask = match self.next()? {
            "bitwise" => {
                let (mask, xor) = self.bitwise(length)?;
                Some(mask).filter(|_| xor.iter().all(|byte| *byte == 0)).map(Some)?
            }
            _ => None,
        };
        let mut data = self.take("cmp")?;
        let wanted = data.number(CMP_OPERATOR)?;
        let comparison = Comparison::ALL.into_iter().find(|own| comparison_number(*own) == wanted)?;
        let value: Box<[u8]> = value(data.take(CMP_DATA)?)?.into();
        let fits = value.len() == length && data.number(CMP_SOURCE) == Some(FIRST_REGISTER);
        data.end().filter(|()| fits).map(|()| Statement::Compare { field, mask, comparison, value })
    }

    fn lookup(&mut self, fields: Vec<Field>) -> Option<Statement> {
        let mut data = self.take("lookup")?;
        let set = data.text(LOOKUP_SET)?;
        let from_first = data.number(LOOKUP_SOURCE) == Some(FIRST_REGISTER);
        let flags = data.number_or_zero(LOOKUP_FLAGS)?;
        let to = data.take(LOOKUP_DESTINATION).map(exact::<4>);
        data.end().filter(|()| from_first)?;
        match (to.map(|to| to.map(u32::from_be_bytes)), flags) {
            (Some(Some(VERDICT_REGISTER)), 0) => Some(Statement::VerdictOf { fields, map: set }),
            (None, 0 | LOOKUP_IS_INVERTED) => {
                Some(Statement::In { fields, set, inverted: flags == LOOKUP_IS_INVERTED })
            }
            _ => None,
        }
    }

    fn limit(&mut self, fields: Vec<Field>) -> Option<Statement> {
        let mut data = self.take("dynset")?;
        let set = data.text(DYNSET_SET)?;
        let updates = data.number(DYNSET_OPERATION) == Some(DYNSET_UPDATE)
            && data.number(DYNSET_KEY) == Some(FIRST_REGISTER)
            && data.is(DYNSET_FLAGS, 0)
            && (!data.has(DYNSET_TIMEOUT) || data.long(DYNSET_TIMEOUT) == Some(0));
        data.ignore(&[DYNSET_PADDING]);
        let mut expression = AttributeSet::of(data.take(DYNSET_EXPRESSION)?)?;
        data.end().filter(|()| updates)?;
        let is_limit = expression.text(EXPRESSION_NAME).as_deref() == Some("limit");
        let mut limit = AttributeSet::of(expression.take(EXPRESSION_DATA)?)?;
        expression.end()?;
        let (rate, burst) = (limit.long(LIMIT_RATE)?, limit.number(LIMIT_BURST)?);
        let fits = is_limit
            && limit.long(LIMIT_UNIT) == Some(1)
            && limit.is(LIMIT_TYPE, LIMIT_OF_PACKETS)
            && limit.is(LIMIT_FLAGS, 0);
        limit.ignore(&[LIMIT_PADDING]);
        limit.end().filter(|()| fits)?;
        Some(Statement::Limit { fields, set, per_second: u32::try_from(rate).ok()?, burst })
    }
}
