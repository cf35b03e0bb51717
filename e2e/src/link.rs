//! Interfaces of the calling thread's network, and packet sockets on them.

use anyhow::{Context, Result, bail};
use pnet_datalink::{
    Channel, Config, DataLinkReceiver, DataLinkSender, NetworkInterface, channel, interfaces,
};
use std::time::Duration;

/// The interface of this name.
///
/// # Errors
/// It does not exist.
pub(crate) fn interface(name: &str) -> Result<NetworkInterface> {
    let named = interfaces().into_iter().find(|interface| interface.name == name);
    named.with_context(|| format!("there is no interface {name}"))
}

/// A packet socket on an interface: sends frames, and receives them, each within `patience` if one is given.
///
/// # Errors
/// It cannot be opened, which needs CAP_NET_RAW.
pub(crate) fn packet_socket(
    name: &str,
    patience: Option<Duration>,
) -> Result<(Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>)> {
    let config = Config { read_timeout: patience, ..Config::default() };
    let opened = channel(&interface(name)?, config);
    match opened.with_context(|| format!("cannot open a packet socket on {name}"))? {
        Channel::Ethernet(sender, receiver) => Ok((sender, receiver)),
        _ => bail!("{name} is no Ethernet interface"),
    }
}
