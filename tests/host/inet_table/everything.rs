//! A table with all that can be in one.

use super::draft::*;
use bridgewarden::netfilter::nftables::{
    Base, ConnectionFact, Elements, Field, HookPoint, KeyPart, LOCAL_ADDRESS, Meta, NFPROTO_IPV4, RejectWith,
    Rule, SetPurpose, Statement, Table, Verdict, state,
};

/// A table with every kind of statement, set, counter and hook, and with every field.
pub(super) fn everything() -> Table {
    let mut draft = Draft::new();
    draft.0.counters.extend(["c-first".into(), "c-second".into()]);
    let goto = |chain: &str| Some(Verdict::Goto(chain.into()));
    *draft.set("map4", &[KeyPart::Ipv4], SetPurpose::VerdictMap, 0) = Elements::from([
        (addresses(&["10.0.0.1"]), goto("facts")),
        (addresses(&["10.0.0.2"]), Some(Verdict::Accept)),
        (addresses(&["10.0.0.3"]), Some(Verdict::Drop)),
        (addresses(&["10.0.0.4"]), Some(Verdict::Return)),
        (addresses(&["10.0.0.5"]), Some(Verdict::Jump("facts".into()))),
    ]);
    *draft.set("map6", &[KeyPart::Ipv6], SetPurpose::VerdictMap, 16) =
        Elements::from([(addresses(&["fd00::1"]), goto("facts"))]);
    *draft.set("plain4", &[KeyPart::Ipv4], SetPurpose::Set, 4) =
        Elements::from([(addresses(&["10.0.0.1"]), None), (addresses(&["255.255.255.255"]), None)]);
    draft.set("empty6", &[KeyPart::Ipv6], SetPurpose::Set, 0);
    *draft.set("pairs4", &[KeyPart::Ipv4, KeyPart::Ipv4], SetPurpose::Set, 0) =
        Elements::from([(addresses(&["10.0.0.1", "10.0.0.2"]), None)]);
    let (parts4, parts6) = (
        [KeyPart::Ipv4, KeyPart::Protocol, KeyPart::Service],
        [KeyPart::Ipv6, KeyPart::Protocol, KeyPart::Service],
    );
    *draft.set("ports4", &parts4, SetPurpose::Set, 0) = Elements::from([
        (address_port("10.0.0.1", TCP, 8080), None),
        (address_port("10.0.0.1", 132, 1), None),
        (address_port("10.0.0.1", 99, 65535), None),
    ]);
    *draft.set("ports6", &parts6, SetPurpose::Set, 0) =
        Elements::from([(address_port("fd00::1", UDP, 53), None)]);
    *draft.set("links", &[KeyPart::Interface, KeyPart::Ipv4], SetPurpose::Set, 0) =
        Elements::from([([&1u32.to_ne_bytes()[..], &octets("10.0.0.1")].concat(), None)]);
    *draft.set("stations", &[KeyPart::Ethernet], SetPurpose::Set, 0) =
        Elements::from([([2, 0, 0, 0, 0, 1], None)]);
    *draft.set("blocks4", &[KeyPart::Ipv4], SetPurpose::Intervals, 0) = Elements::from([
        (addresses(&["0.0.0.0", "9.255.255.255"]), None),
        (addresses(&["10.0.0.0", "10.0.0.0"]), None),
        (addresses(&["10.0.0.1", "10.0.0.7"]), None),
        (addresses(&["200.0.0.0", "255.255.255.255"]), None),
    ]);
    *draft.set("blocks6", &[KeyPart::Ipv6], SetPurpose::Intervals, 0) = Elements::from([
        (addresses(&["fd00::", "fd00::ffff"]), None),
        (addresses(&["fd00::1:0", "fd00::1:0"]), None),
        (addresses(&["ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]), None),
    ]);
    *draft.set("all4", &[KeyPart::Ipv4], SetPurpose::Intervals, 0) =
        Elements::from([(addresses(&["0.0.0.0", "255.255.255.255"]), None)]);
    *draft.set("services", &[KeyPart::Service], SetPurpose::Intervals, 0) =
        Elements::from([([0, 80, 0, 90], None)]);
    let timeout_ms = 61_500;
    draft.set("reported4", &[KeyPart::Ipv4], SetPurpose::Dynamic { timeout_ms }, 1024);
    draft.set("reported6", &[KeyPart::Ipv6], SetPurpose::Dynamic { timeout_ms: 60_000 }, 1024);
    let limit = |fields: &[Field], set: &str| Statement::Limit {
        fields: fields.into(),
        set: set.into(),
        per_second: 10,
        burst: 5,
    };
    let log = |prefix: &str| Statement::Log { group: 101, prefix: prefix.into() };
    draft.chain(
        "refuse",
        refusal(Rule::when().reject(RejectWith::PortUnreachable).comment("all other: (UDP, SCTP) #1")),
    );
    draft.chain(
        "deny",
        vec![
            ipv4().and(limit(&[SOURCE4], "reported4")).and(log("denied-egress")),
            ipv6().and(limit(&[SOURCE6], "reported6")).and(log("denied-egress")),
            Rule::when().goto("refuse"),
        ],
    );
    let number = |number: u32| number.to_ne_bytes();
    draft.chain(
        "facts",
        vec![
            Rule::when().is(STATE, &number(state::NEW)).and(Statement::Counter),
            Rule::when().is_not(STATE, &number(state::ESTABLISHED)).and(Statement::Counter),
            Rule::when().masked(STATE, &number(6), &number(2)).accept(),
            Rule::when().any_bit(STATE, state::INVALID | state::UNTRACKED).drop(),
            Rule::when().any_bit(STATE, 1 << 30).drop(),
            Rule::when()
                .masked(Field::Connection(ConnectionFact::Status), &number(0x28), &number(0x20))
                .accept(),
            Rule::when().any_bit(MARK, 0x10000).goto("refuse").comment("cut"),
            Rule::when().masked(MARK, &number(0xff), &number(1)).accept(),
            Rule::when().is(MARK, &number(5)).accept(),
            Rule::when().is(Field::SourceAddressType, &number(LOCAL_ADDRESS)).accept(),
            Rule::when().is_not(Field::SourceAddressType, &number(LOCAL_ADDRESS)).accept(),
            Rule::when().is_not(Field::Meta(Meta::OutputName), &device("eth0*")).accept(),
            Rule::when().is(Field::Meta(Meta::InputIndex), &number(1)).accept(),
            Rule::when().is_not(Field::Meta(Meta::OutputIndex), &number(77)).accept(),
            Rule::when().at_most(Field::Meta(Meta::Length), &100u32.to_be_bytes()).accept(),
            Rule::when().is(Field::Meta(Meta::PacketType), &[1]).drop(),
            Rule::when().masked(Field::Meta(Meta::Mark), &number(0xf0), &number(0x10)).accept(),
            Rule::when().and(Statement::SetMark(0x4000)),
        ],
    );
    draft.chain(
        "headers",
        vec![
            ipv6().is(PROTOCOL, &[ICMPV6]).is(TYPE, &[134]).drop(),
            protocol(ICMPV6).is(TYPE, &[135]).accept(),
            protocol(1).is(TYPE, &[8]).accept(),
            Rule::when().is(TYPE, &[8]).accept(),
            protocol(TCP).is(PORT, &80u16.to_be_bytes()).count_in("c-first").accept(),
            protocol(TCP).between(PORT, &8000u16.to_be_bytes(), &8100u16.to_be_bytes()).accept(),
            protocol(UDP).at_least(PORT, &1024u16.to_be_bytes()).accept(),
            protocol(132).at_most(PORT, &1024u16.to_be_bytes()).accept(),
            Rule::when().is_not(PORT, &80u16.to_be_bytes()).accept(),
            Rule::when()
                .within(&[PORT], "services")
                .count_in("c-second")
                .accept()
                .comment("shop/web ingress[0]"),
            ipv4().is(SOURCE4, &octets("10.0.0.1")).accept(),
            ipv4().between(DESTINATION4, &octets("10.0.0.1"), &octets("10.0.0.9")).accept(),
            ipv4().masked(SOURCE4, &octets("255.255.255.0"), &octets("10.0.0.0")).accept(),
            ipv6().masked_not(DESTINATION6, &octets("ffc0::"), &octets("fe80::")).accept(),
            Rule::when().is(SOURCE4, &octets("10.0.0.1")).accept(),
            Rule::when().masked(SOURCE4, &octets("255.255.0.0"), &octets("10.0.0.0")).accept(),
            Rule::when().is(Field::Payload { base: Base::Link, offset: 12, length: 2 }, &[8, 6]).drop(),
            Rule::when().is_not(NFPROTO, &[NFPROTO_IPV4]).is(PROTOCOL, &[47]).drop(),
            ipv4().within(&[SOURCE4], "plain4").accept(),
            ipv4().outside(&[SOURCE4], "plain4").jump("facts"),
            ipv6().within(&[DESTINATION6], "empty6").accept(),
            ipv4().within(&[SOURCE4], "blocks4").accept(),
            ipv6().outside(&[SOURCE6], "blocks6").accept(),
            ipv4().within(&[SOURCE4, DESTINATION4], "pairs4").accept(),
            ipv4().within(&[DESTINATION4, PROTOCOL, PORT], "ports4").within(&[SOURCE4], "plain4").accept(),
            ipv6().within(&[DESTINATION6, PROTOCOL, PORT], "ports6").accept(),
            ipv4().within(&[Field::Meta(Meta::InputIndex), SOURCE4], "links").accept(),
            Rule::verdict(Verdict::Return),
        ],
    );
    for (name, point, priority) in [
        ("forward-egress", HookPoint::Forward, -10),
        ("forward-ingress", HookPoint::Forward, -9),
        ("output", HookPoint::Output, -10),
        ("input", HookPoint::Input, 5),
        ("prerouting", HookPoint::Prerouting, -300),
    ] {
        draft.base(
            name,
            point,
            priority,
            vec![
                Rule::when().any_bit(STATE, state::ESTABLISHED | state::RELATED).accept(),
                Rule::when().jump("headers"),
                ipv4().verdict_of(&[SOURCE4], "map4"),
                ipv6().verdict_of(&[SOURCE6], "map6"),
                Rule::when().goto("deny"),
            ],
        );
    }
    draft.0
}
