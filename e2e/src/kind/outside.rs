//! The host outside the cluster: a network namespace with a link to each node, and the outside's addresses, which are
//! the same in every world.

use super::node::KindNode;
use crate::world::Whereabouts;
use anyhow::{Context, Result};
use bridgewarden::testbed::{Netns, OUTSIDE};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use support::program::output;

/// Its addresses: the cluster has only IPv4.
pub(super) const ADDRESSES: [IpAddr; 2] = [OUTSIDE[0], OUTSIDE[1]];
/// The node's end of the link.
const WIRE: &str = "outside0";

/// The namespace, and the process that keeps it alive.
#[derive(Debug)]
pub(super) struct Outside {
    namespace: Netns,
    keeper: Child,
}

impl Outside {
    /// Creates it. It and its links are removed when this process ends in any way.
    pub(super) fn attach<'n>(nodes: impl IntoIterator<Item = &'n KindNode>) -> Result<Outside> {
        // cat ends once its standard input is closed.
        let mut command = Command::new("unshare");
        command.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let keeper = command.spawn().context("cannot start unshare (util-linux)")?;
        let pid = keeper.id().to_string();
        let process = Path::new("/proc").join(&pid);
        while std::fs::read_to_string(process.join("comm")).context("unshare ended")?.trim() != "cat" {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let outside = Outside { namespace: Netns::open("outside", &process.join("ns/net"))?, keeper };
        ip(&outside.namespace, "link set lo up")?;
        for address in ADDRESSES {
            ip(&outside.namespace, &format!("address add {address}/32 dev lo"))?;
        }
        for (number, node) in (1..).zip(nodes) {
            let [here, there] = [1, 2].map(|host| format!("172.31.{number}.{host}"));
            let wire = format!("node{number}");
            // It may be left by a run that was killed a moment ago.
            let _ = ip(&node.namespace, &format!("link delete {WIRE}"));
            ip(&node.namespace, &format!("link add {WIRE} type veth peer name {wire} netns {pid}"))?;
            ip(&node.namespace, &format!("address add {there}/24 dev {WIRE}"))?;
            ip(&node.namespace, &format!("link set {WIRE} up"))?;
            ip(&outside.namespace, &format!("address add {here}/24 dev {wire}"))?;
            ip(&outside.namespace, &format!("link set {wire} up"))?;
            let cidr = &node.pod_cidr;
            ip(&outside.namespace, &format!("route add {cidr} via {there} src {}", OUTSIDE[0]))?;
            for address in ADDRESSES {
                ip(&node.namespace, &format!("route replace {address}/32 via {here}"))?;
            }
        }
        Ok(outside)
    }

    /// The location of one of its addresses.
    pub(super) fn whereabouts(&self, address: IpAddr) -> Result<Whereabouts> {
        Ok(Whereabouts { namespace: Some(self.namespace.clone()), addresses: vec![address] })
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn ip(namespace: &Netns, words: &str) -> Result<()> {
    let words: Vec<&str> = std::iter::once("ip").chain(words.split(' ')).collect();
    output(namespace, &words).map(drop)
}
