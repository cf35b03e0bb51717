//! The interface of both worlds: they create a cluster, change it, locate its endpoints, and remove it.

use crate::cluster::ScenarioCluster;
use crate::verb::Verb;
use anyhow::Result;
use bridgewarden::testbed::Netns;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use support::reach::Name;

/// The location of an endpoint: the network namespace from which it sends, and its addresses.
#[derive(Clone, Debug)]
pub struct Whereabouts {
    /// The network namespace; `None` for a Service.
    pub namespace: Option<Netns>,
    /// The addresses, at most one per family.
    pub addresses: Vec<IpAddr>,
}

/// A world in which scenarios run.
pub trait ScenarioWorld: Send {
    /// How long a change may take to be enforced here before the scenario fails.
    fn deadline(&self) -> Duration;

    /// Creates a scenario's cluster, without any policy.
    ///
    /// # Errors
    /// A message for people.
    fn set_up(&mut self, cluster: &ScenarioCluster) -> Result<()>;

    /// Ensures that agents run on both nodes and are ready.
    ///
    /// # Errors
    /// A message for people.
    fn enforce(&mut self) -> Result<()>;

    /// Makes a change. Returns once the change is made, which may be before it is enforced.
    ///
    /// # Errors
    /// A message for people.
    fn act(&mut self, verb: &Verb) -> Result<()>;

    /// Locates an endpoint.
    ///
    /// # Errors
    /// It cannot be located.
    fn find(&self, who: &Name) -> Result<Whereabouts>;

    /// The address of the cluster's DNS; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be determined.
    fn resolver(&self) -> Result<Option<IpAddr>>;

    /// Removes enforcement, so that everything should be open again.
    ///
    /// # Errors
    /// A message for people.
    fn remove_enforcement(&mut self) -> Result<()>;

    /// Writes agents' logs, and rules and sets of both nodes, to a directory.
    ///
    /// # Errors
    /// They cannot be read or written.
    fn dump(&self, directory: &Path) -> Result<()>;

    /// Removes the scenario's cluster.
    ///
    /// # Errors
    /// A message for people.
    fn clear(&mut self) -> Result<()>;
}

/// Writes a node's rules and sets to files `NODE.COMMAND`; `run` runs a command on the node.
///
/// # Errors
/// When a file cannot be written. If a command fails, its file has the error.
pub(crate) fn dump_kernel(
    directory: &Path,
    node: &str,
    run: impl Fn(&[&str]) -> Result<String>,
) -> Result<()> {
    for words in [
        &["iptables-nft-save"][..],
        &["ip6tables-nft-save"],
        &["iptables-legacy-save"],
        &["ip6tables-legacy-save"],
        &["ipset", "list"],
    ] {
        let text = run(words).unwrap_or_else(|error| format!("{error:#}\n"));
        fs::write(directory.join(format!("{node}.{}", words.join("-"))), text)?;
    }
    Ok(())
}
