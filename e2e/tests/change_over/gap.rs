//! What these trials must not have happens on purpose here, and must be counted.

use crate::test::ChangeTest;
use anyhow::{Result, ensure};
use std::time::Duration;
use support::program::output;

/// How long each state lasts.
const WHILE: Duration = Duration::from_secs(2);

/// Stops kube-router and removes its hooks, as its clean-up does; then drops everything that is forwarded.
pub(crate) fn show(test: &mut ChangeTest) -> Result<()> {
    test.start_kube_router()?;
    test.settle()?;
    test.delete_kube_router()?;
    let mut probes = test.probe()?;
    let both = |arguments: &str| -> Result<()> {
        let script = format!("iptables-nft {arguments} && ip6tables-nft {arguments}");
        output(test.node()?, &["sh", "-ec", &script]).map(drop)
    };
    std::thread::sleep(WHILE);
    probes.mark("the hooks of kube-router are removed");
    both("-F FORWARD")?;
    std::thread::sleep(WHILE);
    probes.mark("everything is dropped");
    both("-A FORWARD -j DROP")?;
    std::thread::sleep(WHILE);
    let (counts, report) = probes.end()?;
    test.note("gap", &format!("{counts:?}\n{report}"))?;
    ensure!(counts.leaked > 100, "open policies were not noticed: {counts:?}\n{report}");
    ensure!(counts.wrongly_denied > 100, "dropped packets were not noticed: {counts:?}\n{report}");
    Ok(())
}
