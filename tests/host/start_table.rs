//! Where the table that denies pods' traffic while an agent starts is not created.

use super::{in_namespace, run};
use bridgewarden::kernel::StartTable;
use bridgewarden::render::nftables::start_table;

#[test]
fn nothing_is_denied_at_the_start_where_rules_of_an_agent_or_of_another_controller_are() {
    for found in [
        "nft add table bridge bridgewarden",
        "nft add table inet bridgewarden-next",
        "nft add table inet kube-network-policies",
        "ipset create KUBE-NWPLCY-ISOLATED-INGRESS-4 hash:ip",
        "ipset create KUBE-SRC-ABCDEFGHIJKLMNOP hash:ip",
        "ipset create inet6:KUBE-DST-ABCDEFGHIJKLMNOP hash:ip family inet6",
    ] {
        in_namespace(move || {
            run(found);
            let before = run("nft list tables");
            if let Ok(table) = StartTable::create(&start_table("bridge0")) {
                assert!(table.is_none(), "{found}");
            }
            assert_eq!(run("nft list tables"), before);
        });
    }
    in_namespace(|| {
        run("nft add table inet other; ipset create other hash:ip; ipset create others hash:net");
        assert!(
            StartTable::create(&start_table("bridge0")).map_or(true, |table| table.is_some()),
            "no controller's"
        );
    });
}
