//! One query to the cluster's DNS (RFC 1035).

use anyhow::Result;
use bridgewarden::testbed::Netns;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// A name that every cluster has.
const NAME: &str = "kubernetes.default.svc.cluster.local";
const ID: [u8; 2] = [0xb4, 0x1d];

/// Whether a DNS query from a network namespace is answered with an address.
pub(crate) fn resolves(namespace: &Netns, server: IpAddr) -> Result<bool> {
    Ok(namespace.enter(|| ask(server)).map(|answer| answer.is_ok_and(|answer| has_address(&answer)))?)
}

fn ask(server: IpAddr) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.connect(SocketAddr::new(server, 53))?;
    socket.send(&query(NAME))?;
    let mut answer = vec![0; 512];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

/// A question for the IPv4 address of a name: recursion desired, one question, type A, class IN.
fn query(name: &str) -> Vec<u8> {
    let mut query = [&ID[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap_or_default());
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

/// Whether it answers our question without an error and with at least one record.
fn has_address(answer: &[u8]) -> bool {
    answer.len() > 12
        && answer[..2] == ID
        && answer[2] & 0x80 != 0
        && answer[3] & 0x0f == 0
        && (answer[6], answer[7]) != (0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_with_a_record_counts() {
        let mut answer = query("a.b");
        assert_eq!(answer.len(), 12 + 5 + 4);
        assert!(!has_address(&answer), "a question is no answer");
        answer[2] |= 0x80;
        assert!(!has_address(&answer), "no record");
        answer[7] = 1;
        assert!(has_address(&answer));
        answer[3] = 3;
        assert!(!has_address(&answer), "NXDOMAIN");
    }
}
