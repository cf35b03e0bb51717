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

/// Where an endpoint is: the network namespace it sends from, and the addresses it is reached at.
#[derive(Clone, Debug)]
pub struct Whereabouts {
    /// The network namespace; none for a Service.
    pub namespace: Option<Netns>,
    /// The addresses, at most one a family.
    pub addresses: Vec<IpAddr>,
}

/// A place where scenarios are played.
pub trait ScenarioWorld: Send {
    /// How long a change may take to be enforced here before the scenario fails.
    fn deadline(&self) -> Duration;

    /// Makes a scenario's cluster, without any policy.
    ///
    /// # Errors
    /// A sentence.
    fn set_up(&mut self, cluster: &ScenarioCluster) -> Result<()>;

    /// Makes sure that agents run on both nodes and are ready.
    ///
    /// # Errors
    /// A sentence.
    fn enforce(&mut self) -> Result<()>;

    /// Makes a change. Returns once the change is made, not once it is enforced.
    ///
    /// # Errors
    /// A sentence.
    fn act(&mut self, verb: &Verb) -> Result<()>;

    /// Locates an endpoint.
    ///
    /// # Errors
    /// When it can't be found out.
    fn find(&self, who: &Name) -> Result<Whereabouts>;

    /// The address of the cluster's DNS; none if there is none.
    ///
    /// # Errors
    /// When it can't be found out.
    fn resolver(&self) -> Result<Option<IpAddr>>;

    /// Ends enforcement, so that everything should be open again.
    ///
    /// # Errors
    /// A sentence.
    fn remove_enforcement(&mut self) -> Result<()>;

    /// Writes agents' logs, and rules and sets of both nodes, into a directory.
    ///
    /// # Errors
    /// When it can't be had, or not be written.
    fn dump(&self, directory: &Path) -> Result<()>;

    /// Takes the scenario's cluster down again.
    ///
    /// # Errors
    /// A sentence.
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
