//! NetworkPolicyPeer and IPBlock.

use super::{ResolvedEnd, World, label, pod};
use crate::api::{IpBlock, LabelSelector, NetworkPolicy, NetworkPolicyPeer, Pod};
use std::net::IpAddr;

/// Whether a rule of the policy with these peers accepts `other` as the other end.
pub(super) fn any(
    world: &World,
    policy: &NetworkPolicy,
    peers: Option<&[NetworkPolicyPeer]>,
    other: &ResolvedEnd<'_>,
) -> bool {
    match peers {
        // NetworkPolicyIngressRule.from: "If this field is empty or missing, this rule matches all sources".
        // NetworkPolicyEgressRule.to: "… matches all destinations".
        None | Some([]) => true,
        // "Items in this list are combined using a logical OR operation."
        Some(peers) => peers.iter().any(|peer| matches(world, policy, peer, other)),
    }
}

fn matches(world: &World, policy: &NetworkPolicy, peer: &NetworkPolicyPeer, other: &ResolvedEnd<'_>) -> bool {
    if peer.unknown.first().is_some() {
        return false;
    }
    let own = pod::namespace(&policy.metadata);
    match (&peer.pod_selector, &peer.namespace_selector, &peer.ip_block) {
        // ipBlock: "If this field is set then neither of the other fields can be."
        (None, None, Some(block)) => holds(block, other.address),
        (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => false,
        // A peer must not be empty.
        (None, None, None) => false,
        // podSelector: "Otherwise it selects the pods matching podSelector in the policy's own namespace."
        (Some(pods), None, None) => other.is(|pod| {
            pod::namespace(&pod.metadata) == own && label::selects(pods, pod::labels(&pod.metadata))
        }),
        // namespaceSelector: "Otherwise it selects all pods in the namespaces selected by namespaceSelector."
        (None, Some(namespaces), None) => other.is(|pod| selects_namespace(world, namespaces, pod)),
        // "If namespaceSelector is also set, then the NetworkPolicyPeer as a whole selects the pods matching
        // podSelector in the namespaces selected by namespaceSelector."
        (Some(pods), Some(namespaces), None) => other.is(|pod| {
            label::selects(pods, pod::labels(&pod.metadata)) && selects_namespace(world, namespaces, pod)
        }),
    }
}

const NAME: &str = "kubernetes.io/metadata.name";

/// Whether the selector selects the pod's namespace. A namespace that the world does not have is selected only by its
/// name, because its other labels are not known.
fn selects_namespace(world: &World, selector: &LabelSelector, pod: &Pod) -> bool {
    let name = pod::namespace(&pod.metadata);
    let known = world.namespaces.iter().find(|namespace| namespace.metadata.name == name);
    let mut labels = known.map(|namespace| pod::labels(&namespace.metadata).clone()).unwrap_or_default();
    // "The Kubernetes control plane sets an immutable label kubernetes.io/metadata.name on all namespaces, the value
    // of the label is the namespace name."
    labels.insert(NAME.to_string(), name.to_string());
    (known.is_some() || asks_for_a_name_alone(selector)) && label::selects(selector, &labels)
}

fn asks_for_a_name_alone(selector: &LabelSelector) -> bool {
    let pairs = || selector.match_labels.iter().flatten();
    let expressions = || selector.match_expressions.iter().flatten();
    let names_one = pairs().next().is_some() || expressions().any(|expression| expression.operator == "In");
    names_one && pairs().all(|(key, _)| key == NAME) && expressions().all(|expression| expression.key == NAME)
}

/// Whether the block contains this address, which may be that of a pod.
fn holds(block: &IpBlock, address: IpAddr) -> bool {
    let Some(cidr) = CidrPrefix::parse(&block.cidr) else { return false };
    let except: Option<Vec<CidrPrefix>> =
        block.except.iter().flatten().map(|text| CidrPrefix::parse(text)).collect();
    let Some(except) = except else { return false };
    // "Except values will be rejected if they are outside the cidr range."
    let within = except.iter().all(|except| cidr.contains(except.address) && except.length > cidr.length);
    // "except is a slice of CIDRs that should not be included within an IPBlock."
    block.unknown.first().is_none()
        && within
        && cidr.contains(address)
        && !except.iter().any(|except| except.contains(address))
}

/// "cidr is a string representing the IPBlock. Valid examples are "192.168.1.0/24" or "2001:db8::/64"."
struct CidrPrefix {
    address: IpAddr,
    length: u32,
}

impl CidrPrefix {
    fn parse(text: &str) -> Option<CidrPrefix> {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        let length: u32 = if digits { length.parse().ok()? } else { return None };
        (length <= bits(address).1).then_some(CidrPrefix { address, length })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let (own, width) = bits(self.address);
        let (other, other_width) = bits(address);
        // `/0` means shifting out all bits at once, which `>>` alone does not permit.
        let head = |bits: u128| bits.checked_shr(width - self.length).unwrap_or(0);
        width == other_width && head(own) == head(other)
    }
}

/// An address as a number, and how many bits its family has.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(cidr: &str, except: &[&str]) -> IpBlock {
        let except = except.iter().map(|text| text.to_string()).collect();
        IpBlock { cidr: cidr.to_string(), except: Some(except), ..IpBlock::default() }
    }

    fn has(cidr: &str, except: &[&str], address: &str) -> bool {
        holds(&block(cidr, except), address.parse().unwrap())
    }

    #[test]
    fn prefix_holds_its_first_and_last_address_and_no_more() {
        for (address, inside) in
            [("10.0.3.255", false), ("10.0.4.0", true), ("10.0.7.255", true), ("10.0.8.0", false)]
        {
            assert_eq!(has("10.0.4.0/22", &[], address), inside, "{address}");
        }
        assert!(has("2001:db8::/33", &[], "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff"));
        assert!(!has("2001:db8::/33", &[], "2001:db8:8000::"));
        assert!(has("10.0.0.1/32", &[], "10.0.0.1") && !has("10.0.0.1/32", &[], "10.0.0.0"));
    }

    #[test]
    fn length_zero_holds_every_address_of_its_family_only() {
        for address in ["0.0.0.0", "127.0.0.1", "255.255.255.255"] {
            assert!(has("0.0.0.0/0", &[], address) && !has("::/0", &[], address), "{address}");
        }
        for address in ["::1", "64:ff9b::1", "fc00::1", "5f00::1", "fe80::1", "ff02::1", "::ffff:10.0.0.1"] {
            assert!(has("::/0", &[], address) && !has("0.0.0.0/0", &[], address), "{address}");
        }
    }

    #[test]
    fn host_bits_of_a_prefix_mean_nothing() {
        assert!(has("10.0.5.77/22", &[], "10.0.4.1"));
        assert!(!has("10.0.5.77/22", &["10.0.6.9/24"], "10.0.6.200"));
    }

    #[test]
    fn except_is_left_out() {
        assert!(has("10.0.0.0/8", &["10.1.0.0/16", "10.2.0.0/16"], "10.3.0.1"));
        assert!(!has("10.0.0.0/8", &["10.1.0.0/16", "10.2.0.0/16"], "10.2.0.1"));
    }

    #[test]
    fn block_with_an_invalid_part_holds_nothing() {
        for cidr in ["", "10.0.0.1", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/+8", "10.0.0.0/", "::/129", "any"] {
            assert!(!has(cidr, &[], "10.0.0.1"), "{cidr}");
        }
        for except in ["", "10.1.0.0", "11.0.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "fd00::/64"] {
            assert!(!has("10.0.0.0/8", &[except], "10.200.0.1"), "{except}");
        }
        let unknown = serde_json::from_str(r#"{"cidr": "10.0.0.0/8", "excepts": []}"#).unwrap();
        assert!(!holds(&unknown, "10.0.0.1".parse().unwrap()));
    }
}
