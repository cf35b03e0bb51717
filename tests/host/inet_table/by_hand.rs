//! A table written by hand for nft, and the same in our words.

use super::draft::*;
use bridgewarden::netfilter::nftables::{
    Elements, Field, HookPoint, KeyPart, LOCAL_ADDRESS, NFPROTO_IPV4, RejectWith, Rule, SetPurpose,
    Statement, Table, Verdict, state,
};

/// The rules of pods for which policies are in force, as nft would be given them by hand.
pub(super) const BY_HAND: &str = include_str!("by_hand.nft");

pub(super) fn by_hand() -> Table {
    let mut draft = Draft::new();
    draft.0.counters.insert("c-in-web".into());
    let goto = |chain: &str| Some(Verdict::Goto(chain.into()));
    for (direction, profile, other) in [("egress", "pr-eg-1", "pr-eg-0"), ("ingress", "pr-in-1", "pr-in-0")] {
        *draft.set(&format!("{direction}4"), &[KeyPart::Ipv4], SetPurpose::VerdictMap, 0) = Elements::from([
            (addresses(&["10.64.0.44"]), goto(profile)),
            (addresses(&["10.64.0.250"]), goto(other)),
        ]);
        *draft.set(&format!("{direction}6"), &[KeyPart::Ipv6], SetPurpose::VerdictMap, 0) = Elements::from([
            (addresses(&["fd00:64::44"]), goto(profile)),
            (addresses(&["fd00:64::250"]), goto(other)),
        ]);
        let reported = SetPurpose::Dynamic { timeout_ms: 60_000 };
        draft.set(&format!("reported-{direction}4"), &[KeyPart::Ipv4], reported, 1024);
        draft.set(&format!("reported-{direction}6"), &[KeyPart::Ipv6], reported, 1024);
    }
    let pair = |address: &str| (addresses(&[address, address]), None);
    *draft.set("self4", &[KeyPart::Ipv4; 2], SetPurpose::Set, 0) =
        ["10.64.0.45", "10.64.0.44", "10.64.0.250"].map(pair).into();
    *draft.set("self6", &[KeyPart::Ipv6; 2], SetPurpose::Set, 0) = ["fd00:64::45"].map(pair).into();
    *draft.set("P4-web", &[KeyPart::Ipv4], SetPurpose::Set, 0) = [(addresses(&["10.64.0.44"]), None)].into();
    *draft.set("P6-web", &[KeyPart::Ipv6], SetPurpose::Set, 0) = [(addresses(&["fd00:64::44"]), None)].into();
    *draft.set("N4-http", &[KeyPart::Ipv4, KeyPart::Protocol, KeyPart::Service], SetPurpose::Set, 0) =
        [(address_port("10.64.0.45", TCP, 8080), None)].into();
    *draft.set("N6-http", &[KeyPart::Ipv6, KeyPart::Protocol, KeyPart::Service], SetPurpose::Set, 0) =
        [(address_port("fd00:64::45", TCP, 8080), None)].into();
    *draft.set("B4-net", &[KeyPart::Ipv4], SetPurpose::Intervals, 0) = Elements::from([
        (addresses(&["192.0.2.0", "192.0.2.127"]), None),
        (addresses(&["192.0.2.192", "192.0.2.255"]), None),
    ]);

    draft.chain("refuse", refusal(Rule::when().reject(RejectWith::PortUnreachable)));
    for (direction, sides) in [("egress", [SOURCE4, SOURCE6]), ("ingress", [DESTINATION4, DESTINATION6])] {
        let report = |family: Rule, side: Field, number: u8| {
            let set = format!("reported-{direction}{number}").into();
            let prefix = format!("denied-{direction}").into();
            family
                .and(Statement::Limit { fields: vec![side], set, per_second: 10, burst: 5 })
                .and(Statement::Log { group: 101, prefix })
        };
        draft.chain(
            &format!("deny-{direction}"),
            vec![report(ipv4(), sides[0], 4), report(ipv6(), sides[1], 6), Rule::when().goto("refuse")],
        );
    }
    let message = |kind: u8| ipv6().is(PROTOCOL, &[ICMPV6]).is(TYPE, &[kind]);
    draft.chain(
        "excused",
        vec![
            message(2).accept(),
            message(133).accept(),
            message(135).accept(),
            message(136).accept(),
            message(134).drop(),
            message(137).drop(),
            ipv4().within(&[SOURCE4, DESTINATION4], "self4").accept(),
            ipv6().within(&[SOURCE6, DESTINATION6], "self6").accept(),
        ],
    );
    let cut = || Rule::when().any_bit(MARK, 0x10000).goto("refuse");
    let lasting = || Rule::when().any_bit(STATE, state::ESTABLISHED | state::RELATED).accept();
    let local = || Rule::when().is(Field::SourceAddressType, &LOCAL_ADDRESS.to_ne_bytes()).accept();
    let maps = |direction: &str, sides: [Field; 2]| {
        let [map4, map6] = [4, 6].map(|number| format!("{direction}{number}"));
        [
            Rule::when().jump("excused"),
            ipv4().verdict_of(&[sides[0]], &map4),
            ipv6().verdict_of(&[sides[1]], &map6),
        ]
    };
    let egress = maps("egress", [SOURCE4, SOURCE6]);
    let ingress = maps("ingress", [DESTINATION4, DESTINATION6]);
    let chain = |first: &[Rule], maps: &[Rule]| [first, maps].concat();
    let why = "connections that lost what allowed them";
    let first = [cut().comment(why), lasting()];
    draft.base("forward-egress", HookPoint::Forward, -10, chain(&first, &egress));
    draft.base("forward-ingress", HookPoint::Forward, -9, chain(&[lasting()], &ingress));
    let first = [cut(), lasting(), local().comment("the node reaches its pods")];
    draft.base("output-egress", HookPoint::Output, -10, chain(&first, &egress));
    draft.base("output-ingress", HookPoint::Output, -9, chain(&[lasting(), local()], &ingress));

    let counted = |rule: Rule| rule.count_in("c-in-web").accept();
    let comment = "shop/web ingress[0]";
    draft.chain(
        "np-in-web",
        vec![
            counted(ipv4().within(&[DESTINATION4, PROTOCOL, PORT], "N4-http").within(&[SOURCE4], "P4-web"))
                .comment(comment),
            counted(ipv6().within(&[DESTINATION6, PROTOCOL, PORT], "N6-http").within(&[SOURCE6], "P6-web"))
                .comment(comment),
            counted(
                protocol(UDP)
                    .is(PORT, &5353u16.to_be_bytes())
                    .is(NFPROTO, &[NFPROTO_IPV4])
                    .within(&[SOURCE4], "P4-web"),
            ),
        ],
    );
    let ports = protocol(TCP).between(PORT, &8000u16.to_be_bytes(), &8100u16.to_be_bytes());
    let from_block = ports.is(NFPROTO, &[NFPROTO_IPV4]).within(&[SOURCE4], "B4-net");
    draft.chain("np-in-out", vec![from_block.accept().comment("shop/out ingress[0]")]);
    draft.chain("np-eg-any", vec![Rule::when().accept().comment("shop/any egress[0]")]);
    let judge = |policies: &[(&str, &str)], deny: &str| {
        let mut rules = vec![Rule::when().any_bit(STATE, state::INVALID).drop()];
        rules.extend(policies.iter().map(|(chain, policy)| Rule::when().jump(chain).comment(policy)));
        rules.push(Rule::when().goto(deny));
        rules
    };
    let to_web = [("np-in-web", "shop/web"), ("np-in-out", "shop/out")];
    draft.chain("pr-in-1", judge(&to_web, "deny-ingress"));
    draft.chain("pr-in-0", judge(&[], "deny-ingress"));
    draft.chain("pr-eg-1", judge(&[("np-eg-any", "shop/any")], "deny-egress"));
    draft.chain("pr-eg-0", judge(&[], "deny-egress"));
    draft.0
}
