//! One CNI result, as libcni caches it (`cachedInfo` in libcni/api.go): a pod and its addresses.
//!
//! containerd and CRI-O both cache results through libcni. Other content of such a file, such as a pod's annotations, may be
//! secret, and is neither kept nor reported.

use crate::model::{Hardware, PodKey, Sandbox, SandboxKey};
use crate::net::IpNet;
use serde::Deserialize;
use std::net::IpAddr;
use std::time::Duration;
use thiserror::Error;

/// The interface whose addresses are the pod's: both runtimes use this name, and the kubelet reports no other interface.
const INTERFACE: &str = "eth0";

/// The only kind of file so far.
const KIND: &str = "cniCacheV1";

/// Why a result cannot be read.
#[derive(Debug, Error)]
pub enum CniResultError {
    /// It is not JSON, or does not have libcni's shape. Perhaps it is still being written.
    #[error("it is not a CNI result as libcni writes it, or is incomplete: {0}")]
    Shape(#[from] serde_json::Error),
    /// Its content belongs to another container than the file's name, as in a copy.
    #[error("its content belongs to a file named `{0}`: remove it if it is a copy")]
    Name(String),
    /// An address is not valid.
    #[error("`{0}` is not an address with a prefix length")]
    Address(String),
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Cached {
    kind: Option<String>,
    container_id: Option<String>,
    if_name: Option<String>,
    network_name: Option<String>,
    cni_args: Option<Vec<(String, String)>>,
    result: Option<Made>,
}

/// A result of any version: `ips` since 0.3.0, `ip4` and `ip6` before.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Made {
    interfaces: Option<Vec<Option<Interface>>>,
    ips: Option<Vec<Ip>>,
    ip4: Option<OldIp>,
    ip6: Option<OldIp>,
}

#[derive(Deserialize)]
struct Interface {
    name: String,
    mac: Option<String>,
    /// The pod's network namespace; absent or empty for a device of the node.
    sandbox: Option<String>,
}

impl Interface {
    fn is_of_the_node(&self) -> bool {
        self.sandbox.as_ref().is_none_or(String::is_empty)
    }
}

#[derive(Deserialize)]
struct Ip {
    interface: Option<usize>,
    address: String,
}

#[derive(Deserialize)]
struct OldIp {
    ip: String,
}

/// Whether a file of this name can be the result of a pod's own interface.
pub(super) fn is_of_a_pod(name: &str) -> bool {
    name.strip_suffix(INTERFACE).is_some_and(|rest| rest.len() > 1 && rest.ends_with('-'))
}

/// Reads the file of this name, last written at `made` since the Unix epoch. `None` for a result that is not a pod's, or has no
/// addresses.
///
/// # Errors
/// It cannot be read.
pub fn parse(name: &str, text: &[u8], made: Duration) -> Result<Option<Sandbox>, CniResultError> {
    let cached: Cached = serde_json::from_slice(text)?;
    if cached.kind.as_deref() != Some(KIND) || cached.if_name.as_deref() != Some(INTERFACE) {
        return Ok(None);
    }
    let argument = |wanted: &str| {
        let mut arguments = cached.cni_args.iter().flatten();
        let (_, value) = arguments.find(|(own, value)| own == wanted && !value.is_empty())?;
        Some(value.as_str())
    };
    let (Some(namespace), Some(pod)) = (argument("K8S_POD_NAMESPACE"), argument("K8S_POD_NAME")) else {
        return Ok(None);
    };
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    let own = format!("{}-{}-{INTERFACE}", part(&cached.network_name), part(&cached.container_id));
    if own != name {
        return Err(CniResultError::Name(own));
    }
    let addresses = addresses(cached.result.as_ref())?;
    let key = SandboxKey::new(PodKey::new(namespace, pod), name);
    let uid = argument("K8S_POD_UID").map(Into::into);
    let (devices, hardware) = (devices(cached.result.as_ref()), hardware(cached.result.as_ref()));
    Ok((!addresses.is_empty()).then_some(Sandbox { key, uid, addresses, made, devices, hardware }))
}

fn interfaces(made: Option<&Made>) -> impl Iterator<Item = &Interface> {
    made.into_iter().flat_map(|made| made.interfaces.iter().flatten().flatten())
}

/// The devices of the node that were created or used for the pod.
fn devices(made: Option<&Made>) -> Vec<Box<str>> {
    interfaces(made).filter(|own| own.is_of_the_node()).map(|own| own.name.as_str().into()).collect()
}

/// The Ethernet address of the pod's own interface.
fn hardware(made: Option<&Made>) -> Option<Hardware> {
    let own = interfaces(made).find(|own| !own.is_of_the_node() && own.name == INTERFACE)?;
    let mut octets = own.mac.as_ref()?.split(':').map(|octet| u8::from_str_radix(octet, 16));
    let mut hardware = [0; 6];
    for place in &mut hardware {
        *place = octets.next()?.ok()?;
    }
    octets.next().is_none().then_some(hardware)
}

fn addresses(made: Option<&Made>) -> Result<Vec<IpAddr>, CniResultError> {
    let Some(made) = made else { return Ok(Vec::new()) };
    let is_elsewhere = |ip: &&Ip| {
        let interfaces = made.interfaces.as_deref().unwrap_or_default();
        let interface = ip.interface.and_then(|index| interfaces.get(index)?.as_ref());
        interface.is_some_and(|interface| interface.name != INTERFACE)
    };
    let new = made.ips.iter().flatten().filter(|ip| !is_elsewhere(ip)).map(|ip| &ip.address);
    let old = made.ip4.iter().chain(&made.ip6).map(|old| &old.ip);
    let mut addresses = Vec::new();
    for text in new.chain(old) {
        let net: IpNet = text.parse().map_err(|_| CniResultError::Address(text.clone()))?;
        let address = net.addr().to_canonical();
        if address.is_unspecified() {
            // No ipset can contain it, and no packet has it.
            return Err(CniResultError::Address(text.clone()));
        }
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const CONTAINER: &str = "3f6940ab5ab43bc5";
    const NAME: &str = "cbr0-3f6940ab5ab43bc5-eth0";

    /// As containerd writes it: a pod on a bridge, by flannel.
    fn of_containerd() -> Value {
        json!({
            "kind": "cniCacheV1",
            "containerId": CONTAINER,
            "config": "eyJjbmlWZXJzaW9uIjoiMC4zLjEifQ==",
            "ifName": "eth0",
            "networkName": "cbr0",
            "netns": "/var/run/netns/cni-4b2a",
            "cniArgs": [
                ["IgnoreUnknown", "1"],
                ["K8S_POD_NAMESPACE", "shop"],
                ["K8S_POD_NAME", "web"],
                ["K8S_POD_INFRA_CONTAINER_ID", CONTAINER],
                ["K8S_POD_UID", "f0bfbd5b"],
            ],
            "capabilityArgs": {"dns": {}, "io.kubernetes.cri.pod-annotations": {"note": "10.9.9.9"}},
            "result": {
                "cniVersion": "0.3.1",
                "dns": {},
                "interfaces": [
                    {"mac": "0a:58:0a:f4:00:01", "name": "cni0"},
                    {"mac": "3a:8f:5d:0c:f9:21", "name": "veth4b2a"},
                    {"mac": "0a:58:0a:f4:00:05", "name": "eth0", "sandbox": "/var/run/netns/cni-4b2a"},
                ],
                "ips": [
                    {"address": "10.244.0.5/24", "gateway": "10.244.0.1", "interface": 2, "version": "4"},
                    {"address": "fd00:10:244::5/64", "gateway": "fd00:10:244::1", "interface": 2, "version": "6"},
                ],
                "routes": [{"dst": "10.244.0.0/16"}, {"dst": "0.0.0.0/0", "gw": "10.244.0.1"}],
            },
        })
    }

    /// As CRI-O writes it: CNI_ARGS of the environment follow, and annotations that request bandwidth and ports.
    fn of_crio() -> Value {
        let mut result = of_containerd();
        result["networkName"] = json!("crio");
        result["netns"] = json!("/var/run/netns/8b8677c8");
        let behind = [json!(["K8S_POD_NAME", "other"]), json!(["IP", "10.85.0.9"])];
        result["cniArgs"].as_array_mut().unwrap().extend(behind);
        result["capabilityArgs"] =
            json!({"portMappings": [{"containerPort": 80, "hostPort": 8080, "protocol": "tcp"}]});
        result["result"] = json!({
            "cniVersion": "1.0.0",
            "dns": {},
            "interfaces": [
                {"name": "cni0", "mac": "8a:5e:1c:24:8d:5a"},
                {"name": "veth8b86", "mac": "c6:11:b0:ff:2e:1b"},
                {"name": "eth0", "mac": "62:0d:77:e1:ea:34", "sandbox": "/var/run/netns/8b8677c8"},
            ],
            "ips": [{"interface": 2, "address": "10.85.0.2/16", "gateway": "10.85.0.1"}],
        });
        result
    }

    fn read(name: &str, result: &Value) -> Result<Option<Sandbox>, CniResultError> {
        parse(name, result.to_string().as_bytes(), Duration::from_secs(7))
    }

    fn changed(change: impl Fn(&mut Value)) -> Result<Option<Sandbox>, CniResultError> {
        let mut result = of_containerd();
        change(&mut result);
        read(NAME, &result)
    }

    fn addresses(sandbox: &Sandbox) -> Vec<String> {
        sandbox.addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn results_of_both_runtimes_contain_the_pod_its_uid_and_its_addresses() {
        let sandbox = read(NAME, &of_containerd()).unwrap().unwrap();
        assert_eq!(sandbox.key, SandboxKey::new(PodKey::new("shop", "web"), NAME));
        assert_eq!((sandbox.uid.as_deref(), sandbox.made.as_secs()), (Some("f0bfbd5b"), 7));
        assert_eq!(addresses(&sandbox), ["10.244.0.5", "fd00:10:244::5"]);
        let devices = |sandbox: &Sandbox| sandbox.devices.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(devices(&sandbox), ["cni0", "veth4b2a"]);
        assert_eq!(sandbox.hardware, Some([0x0a, 0x58, 0x0a, 0xf4, 0x00, 0x05]));
        let sandbox = read("crio-3f6940ab5ab43bc5-eth0", &of_crio()).unwrap().unwrap();
        assert_eq!((devices(&sandbox).len(), sandbox.hardware.is_some()), (2, true));
        assert_eq!(sandbox.key.pod, PodKey::new("shop", "web"), "what comes first counts");
        assert_eq!(addresses(&sandbox), ["10.85.0.2"]);
    }

    #[test]
    fn results_of_every_version_contain_their_addresses() {
        for (made, expected) in [
            (json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.2/24"}, "ip6": {"ip": "fd00::2/64"}}), 2),
            (json!({"ip4": {"ip": "10.0.0.2/24", "gateway": "10.0.0.1"}}), 1),
            (json!({"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.0.0.2/24"}]}), 1),
            (
                json!({"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}, {"address": "10.0.0.2/32"}]}),
                1,
            ),
            (json!({"ips": [{"address": "::ffff:10.0.0.2/120", "interface": 9}], "interfaces": [null]}), 1),
        ] {
            let sandbox = changed(|result| result["result"] = made.clone()).unwrap().unwrap();
            assert_eq!((addresses(&sandbox).len(), addresses(&sandbox)[0].as_str()), (expected, "10.0.0.2"));
        }
    }

    #[test]
    fn address_of_another_interface_is_not_the_pods() {
        let sandbox = changed(|result| result["result"]["ips"][0]["interface"] = json!(0)).unwrap().unwrap();
        assert_eq!(addresses(&sandbox), ["fd00:10:244::5"]);
    }

    #[test]
    fn invalid_ethernet_address_is_left_out_and_the_rest_is_read() {
        for wrong in [json!("0a:58:0a:f4:00"), json!("0a:58:0a:f4:00:05:06"), json!("here"), json!(null)] {
            let sandbox = changed(|result| result["result"]["interfaces"][2]["mac"] = wrong.clone());
            let sandbox = sandbox.unwrap().unwrap();
            assert_eq!((sandbox.hardware, sandbox.addresses.len()), (None, 2));
        }
    }

    #[test]
    fn without_a_uid_the_rest_is_read() {
        let cut = changed(|result| drop(result["cniArgs"].as_array_mut().unwrap().pop()));
        assert_eq!(cut.unwrap().unwrap().uid, None);
    }

    #[test]
    fn result_that_is_not_a_pods_is_ignored() {
        let nothing = |change: &dyn Fn(&mut Value)| assert!(matches!(changed(change), Ok(None)));
        nothing(&|result| result["kind"] = json!("cniCacheV9"));
        nothing(&|result| *result = json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.2/24"}}));
        nothing(&|result| result["ifName"] = json!("net1"));
        nothing(&|result| result["cniArgs"] = json!(null));
        nothing(&|result| result["cniArgs"] = json!([["K8S_POD_NAMESPACE", ""], ["K8S_POD_NAME", "web"]]));
        nothing(&|result| result["result"] = json!(null));
        nothing(&|result| result["result"] = json!({"cniVersion": "1.0.0"}));
        assert!(is_of_a_pod(NAME));
        for name in ["cni-loopback-3f6940ab-lo", "cbr0-3f6940ab-eth01", "-eth0", "eth0", ""] {
            assert!(!is_of_a_pod(name), "{name}");
        }
    }

    #[test]
    fn file_whose_content_does_not_match_its_name_is_an_error() {
        let error = read("copy-of-cbr0-3f6940ab5ab43bc5-eth0", &of_containerd()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("its content belongs to a file named `{NAME}`: remove it if it is a copy")
        );
        let error = changed(|result| result["result"]["ips"][1]["address"] = json!("here")).unwrap_err();
        assert_eq!(error.to_string(), "`here` is not an address with a prefix length");
    }

    #[test]
    fn truncated_file_is_never_accepted() {
        let text = of_containerd().to_string();
        for end in 0..text.len() {
            let beginning = &text.as_bytes()[..end];
            assert!(matches!(parse(NAME, beginning, Duration::ZERO), Err(CniResultError::Shape(_))), "{end}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_a_file_may_hold_causes_a_panic(text in any::<Vec<u8>>(), at in 0..800_usize, byte in any::<u8>()) {
            let _ = parse(NAME, &text, Duration::ZERO);
            let mut edited = of_containerd().to_string().into_bytes();
            let at = at % edited.len();
            edited[at] = byte;
            let _ = parse(NAME, &edited, Duration::ZERO);
        }
    }
}
