//! When the kernel is compared with what policies say.

use super::driven::DrivenNode;
use super::kernel::Shared;
use std::time::{Duration, Instant};

#[test]
fn kernel_is_verified_after_an_audit_unless_that_is_turned_off() {
    for off in [false, true] {
        let mut node = DrivenNode::new(Shared::default(), Instant::now(), None);
        if off {
            node.reconciler.leave_unverified();
        }
        node.deliver(Vec::new(), true);
        node.finish_all();
        for _ in 0..3 {
            node.passes(Duration::from_secs(60));
            node.finish_all();
        }
        assert_eq!(node.seen.verified > 0, !off, "{} verifications", node.seen.verified);
    }
}
