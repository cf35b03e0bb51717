//! Where the page of the node may be served: on this host only.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use thiserror::Error;

/// What an address of a Unix socket begins with.
const SOCKET: &str = "unix:";

/// Where the page of the node is served: nowhere that another host or a pod with a network of its own reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UiAddress {
    /// A loopback address of the host.
    Loopback(SocketAddr),
    /// A Unix socket, which only root can open.
    Socket(PathBuf),
}

/// Why the page of the node is not served at an address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UiAddressError {
    /// Others than processes of the host could reach it.
    #[error(
        "{0} is not a loopback address: the page shows the cluster's policies and names of pods without a password, and pods and \
         other hosts could read it there. Write 127.0.0.1:PORT, [::1]:PORT or unix:/PATH, and reach it with `kubectl port-forward`"
    )]
    NotLoopback(SocketAddr),
    /// The path of a socket is not absolute.
    #[error(
        "the path of a socket begins with a slash: write unix:/PATH, such as unix:/run/bridgewarden/ui.sock"
    )]
    NotAbsolute,
    /// It is something else.
    #[error("write 127.0.0.1:PORT, [::1]:PORT or unix:/PATH, or nothing for no page")]
    NotAnAddress,
}

impl FromStr for UiAddress {
    type Err = UiAddressError;

    fn from_str(text: &str) -> Result<UiAddress, UiAddressError> {
        if let Some(path) = text.strip_prefix(SOCKET) {
            let path = PathBuf::from(path);
            let is_file = path.is_absolute() && path.file_name().is_some();
            return if is_file { Ok(UiAddress::Socket(path)) } else { Err(UiAddressError::NotAbsolute) };
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(UiAddress::Loopback(address)),
            Ok(address) => Err(UiAddressError::NotLoopback(address)),
            Err(_) => Err(UiAddressError::NotAnAddress),
        }
    }
}

impl fmt::Display for UiAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UiAddress::Loopback(address) => write!(f, "{address}"),
            UiAddress::Socket(path) => write!(f, "{SOCKET}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_and_absolute_sockets_are_taken_and_written_the_same() {
        for text in ["127.0.0.1:20246", "[::1]:20246", "127.8.0.1:1", "unix:/run/bridgewarden/ui.sock"] {
            let address: UiAddress = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn address_that_others_reach_is_refused_with_the_reason() {
        for text in
            ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "[::ffff:127.0.0.1]:80", "[fe80::1]:80", "192.0.2.1:1"]
        {
            let error = text.parse::<UiAddress>().expect_err(text).to_string();
            assert!(error.contains("pods and other hosts could read it"), "{text}: {error}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_to_write() {
        for text in [
            "",
            "localhost:80",
            "127.0.0.1",
            "80",
            "unix:",
            "unix:ui.sock",
            "unix:/",
            "/run/ui.sock",
            "http://127.0.0.1:1",
        ] {
            let error = text.parse::<UiAddress>().expect_err(text).to_string();
            assert!(error.contains("unix:/PATH"), "{text}: {error}");
        }
    }
}
