//! What is dropped at a port of the bridge is reported with the pod behind the port, and why.

use crate::denied_flows::reported;
use crate::setup::*;
use bridgewarden::flow::Reason;
use bridgewarden::model::Direction;
use bridgewarden::testbed::Endpoint;
use std::net::{IpAddr, SocketAddr};

#[test]
fn spoofed_source_is_reported_with_the_pod_and_the_port_that_it_came_by() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("flowsp{short}"), backend, None);
        test.start(&["--audit-interval-seconds", "1"]);
        test.wait_until_enforced();
        for (source, to) in [("10.244.2.20", WEB[0]), ("fd00:10:244:2::20", WEB[1])] {
            let (source, to): (IpAddr, IpAddr) = (source.parse().unwrap(), to.parse().unwrap());
            let from = Endpoint::pod("shop", "near");
            test.field.testbed.spoof(&from, source, SocketAddr::new(to, 80), b"forged").expect("it is sent");
        }
        test.wait_for("reported", || reported(&test).len() == 2);
        for record in reported(&test) {
            let account = &record.account;
            let ends = [&account.source, &account.destination].map(ToString::to_string);
            assert_eq!(
                ends,
                ["shop/near", "shop/web"],
                "the sender by its port, not by the address that it claims"
            );
            assert_eq!((account.reason, account.direction), (Reason::SpoofedSource, Direction::Egress));
            assert!(account.bridge_port.as_ref().is_some_and(|port| port.starts_with("veth")), "{record}");
            assert!(record.to_string().contains("spoofed source: "), "{record}");
        }
        let counted = "bridgewarden_dropped_frames_total{reason=\"spoofed\"}";
        test.wait_for("counted", || test.metric("node-a", counted) == 2.0);
        assert_eq!(test.metric("node-a", "bridgewarden_bound_ports"), 2.0);
        assert_eq!(test.metric("node-a", "bridgewarden_unbound_pods"), 0.0);
        assert_eq!(test.metric("node-a", "bridgewarden_drift_repairs_total"), 0.0);
    });
}
