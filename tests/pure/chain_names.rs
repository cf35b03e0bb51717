//! Chains whose names would be the same.

use bridgewarden::compile::Subject;
use bridgewarden::explain::oracle::{FlowQuery, QueryEnd, Ruling, decide};
use bridgewarden::model::{Direction, PodKey};
use bridgewarden::net::{Family, Protocol};
use bridgewarden::netfilter::BackendName;
use bridgewarden::render::Names;
use std::collections::BTreeMap;
use support::packets::{Judge, rules_of_both};

/// Names of chains are short hashes: a pod whose hash equals another's must not get the other's policies.
#[test]
fn pods_whose_chains_would_have_one_name_are_judged_each_by_its_own_policies() {
    let direction = Direction::Ingress;
    let key = |number: u32| PodKey::new("shop", &format!("w{number}"));
    let mut named = BTreeMap::new();
    let pair = (0..4_000_000_u32).find_map(|number| {
        let name = Names::default().pod(&Subject::Pod(key(number)), direction);
        named.insert(name, number).map(|other| [other, number])
    });
    let pair = pair.expect("two of so many have one name");
    let host = |number: u32| if number == pair[0] { 10_u8 } else { 11 };
    let pods = pair.map(|number| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: w{number}, labels: {{app: w{number}}}}}\n\
             spec: {{nodeName: node-a}}\nstatus: {{podIPs: [{{ip: 10.244.1.{}}}]}}\n",
            host(number)
        )
    });
    let policies = pair.map(|number| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{namespace: shop, name: p{number}}}\n\
             spec: {{podSelector: {{matchLabels: {{app: w{number}}}}}, ingress: [{{ports: [{{port: {}}}]}}]}}\n",
            host(number)
        )
    });
    let world = support::manifest::parse(&[pods, policies].concat().concat()).expect("it reads");
    let rules = rules_of_both(BackendName::IptablesNft, &world);
    let judge = Judge::new(&world, [&rules[0], &rules[1]]);
    let end = |host: u16| QueryEnd::Pod(usize::from(host - 10));
    for (to, port) in [(10, 10), (10, 11), (11, 10), (11, 11)] {
        let (source, destination) = (end(21 - to), end(to));
        let flow = FlowQuery { source, destination, protocol: Protocol::Tcp, port, family: Family::V4 };
        assert_eq!(judge.allows(&flow), to == port, "{flow:?}");
        assert_eq!(
            decide(&world, &flow).is_ok_and(|verdict| verdict == Ruling::Allowed),
            to == port,
            "{flow:?}"
        );
    }
}
