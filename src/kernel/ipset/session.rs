//! The commands of ipset: create, fill, swap, destroy, list.

use super::codec::{self, IpsetCommand};
use super::refusal;
use crate::apply::KernelError;
use crate::kernel::netlink::{
    ACKNOWLEDGE, CREATE, DUMP, Datagram, EXCLUSIVE, Failure, Message, Netlink, REQUEST_MAX, exact, find,
    text, whole,
};
use crate::netfilter::ipset::{Element, Kind, Set};
use crate::netfilter::{SET_NAME_MAX, SetName};
use crate::ownership::SPARE;
use nix::libc;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The supported protocol versions (IPSET_PROTOCOL, IPSET_PROTOCOL_MIN).
const NEWEST: u8 = 7;
const OLDEST: u8 = 6;

/// How often, and at which interval, a swap or destroy is retried while another process reads the set.
const BUSY_ATTEMPTS: usize = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(4);

/// Elements for one set.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernel) struct Members<'a> {
    set: &'a SetName,
    /// The set to which they are written: the spare set, if it is to be swapped in.
    actual: &'a str,
    kind: Kind,
    elements: &'a BTreeSet<Element>,
}

impl<'a> Members<'a> {
    /// Elements for a set of this kind.
    pub(in crate::kernel) fn new(
        set: &'a SetName,
        kind: Kind,
        elements: &'a BTreeSet<Element>,
    ) -> Members<'a> {
        Members { set, actual: set.as_str(), kind, elements }
    }
}

/// Requests that are sent in one message.
#[derive(Default)]
struct Requests<'a, 'b> {
    datagram: Datagram,
    /// The elements that each request is about.
    about: Vec<&'b Members<'a>>,
    /// The number of elements of all requests.
    elements: u32,
}

impl<'a, 'b> Requests<'a, 'b> {
    fn add(&mut self, message: &Message, about: &'b Members<'a>, elements: u32) {
        self.elements += elements;
        self.datagram.push(message);
        self.about.push(about);
    }
}

/// A netlink socket for sets.
pub(in crate::kernel) struct Ipset {
    netlink: Netlink,
    protocol: u8,
    /// Requests that changed something.
    pub(in crate::kernel) writes: u64,
    /// Elements that were added or removed.
    pub(in crate::kernel) elements: u64,
}

impl Ipset {
    /// Opens the socket and agrees on a protocol version.
    pub(in crate::kernel) fn open() -> Result<Ipset, KernelError> {
        let act = "open a socket to the kernel's ipset";
        let netlink = Netlink::open().map_err(|source| KernelError::Netlink { act, source })?;
        let mut ipset = Ipset { netlink, protocol: OLDEST, writes: 0, elements: 0 };
        let mut newest = None;
        let mut oldest = None;
        ipset
            .netlink
            .ask(ipset.request(IpsetCommand::Protocol, ACKNOWLEDGE), |answer| {
                newest = find(answer, codec::PROTOCOL).and_then(exact).map(|[version]| version);
                oldest = find(answer, codec::PROTOCOL_MIN).and_then(exact).map(|[version]| version);
            })
            .map_err(|failure| refused(act, "(protocol)", failure))?;
        let newest: u8 = newest.unwrap_or(OLDEST);
        let oldest: u8 = oldest.unwrap_or(newest);
        if newest < OLDEST || oldest > NEWEST {
            return Err(KernelError::Set {
                act,
                set: "(protocol)".to_owned(),
                reason: format!("it speaks versions {oldest} to {newest}, we speak {OLDEST} to {NEWEST}"),
                code: refusal::PROTOCOL,
            });
        }
        ipset.protocol = newest.min(NEWEST);
        Ok(ipset)
    }

    /// Creates a set and fills it. If that fails, no set is left.
    pub(in crate::kernel) fn create(&mut self, name: &SetName, set: &Set) -> Result<(), KernelError> {
        self.create_named(name.as_str(), set, name)
    }

    /// Fills a spare set and swaps it in, so that packets are matched against the old set or the new one and nothing
    /// between.
    pub(in crate::kernel) fn replace(&mut self, name: &SetName, set: &Set) -> Result<(), KernelError> {
        let spare = spare_name(name);
        self.destroy_named(&spare)?;
        self.create_named(&spare, set, name)?;
        let swapped = self.unless_busy(|ipset| {
            let mut request = ipset.request(IpsetCommand::Swap, ACKNOWLEDGE);
            request.put_text(codec::NAME, &spare);
            request.put_text(codec::SECOND_NAME, name.as_str());
            ipset.write(request)
        });
        let destroyed = self.destroy_named(&spare);
        swapped.map_err(|failure| refused("replace", name.as_str(), failure))?;
        destroyed
    }

    /// Adds elements to sets; existing ones are no error. As many requests as fit are sent in one message, and a failed
    /// one does not prevent the others.
    pub(in crate::kernel) fn add(&mut self, members: &[Members<'_>]) -> Result<(), KernelError> {
        self.edit(IpsetCommand::Add, members)
    }

    /// Removes elements from sets in the same way; missing ones are no error.
    pub(in crate::kernel) fn remove(&mut self, members: &[Members<'_>]) -> Result<(), KernelError> {
        self.edit(IpsetCommand::Remove, members)
    }

    /// Destroys a set. No error if it no longer exists.
    pub(in crate::kernel) fn destroy(&mut self, name: &SetName) -> Result<(), KernelError> {
        self.destroy_named(name.as_str())
    }

    /// Every set whose name begins with `prefix` and whose type is in use here.
    pub(in crate::kernel) fn read(&mut self, prefix: &str) -> Result<BTreeMap<SetName, Set>, KernelError> {
        whole(|| self.list(prefix)).map_err(|failure| refused("read", prefix, failure))
    }

    /// The names of all sets.
    pub(in crate::kernel) fn names(&mut self) -> Result<BTreeSet<String>, KernelError> {
        let read = || {
            let mut names = BTreeSet::new();
            let mut request = self.request(IpsetCommand::List, DUMP);
            request.put(codec::FLAGS, &codec::NAMES_ALONE.to_be_bytes());
            self.netlink.ask(request, |set| {
                names.extend(find(set, codec::NAME).and_then(text).map(str::to_owned));
            })?;
            Ok(names)
        };
        whole(read).map_err(|failure| refused("list", "(all)", failure))
    }

    /// Lists all sets at once: a list of one set by name would make the kernel walk over all of them.
    fn list(&mut self, prefix: &str) -> Result<BTreeMap<SetName, Set>, Failure> {
        let mut listed = Listed::default();
        self.netlink.ask(self.request(IpsetCommand::List, DUMP), |message| listed.take(message, prefix))?;
        Ok(listed.sets())
    }

    fn create_named(&mut self, actual: &str, set: &Set, meant: &SetName) -> Result<(), KernelError> {
        let mut request = self.request(IpsetCommand::Create, ACKNOWLEDGE | CREATE | EXCLUSIVE);
        request.put_text(codec::NAME, actual);
        codec::put_kind(&mut request, set.kind, set.elements.len());
        self.write(request).map_err(|failure| refused("create", actual, failure))?;
        let members = Members { actual, ..Members::new(meant, set.kind, &set.elements) };
        self.add(&[members]).inspect_err(|_| {
            let _ = self.destroy_named(actual);
        })
    }

    fn destroy_named(&mut self, name: &str) -> Result<(), KernelError> {
        let destroyed = self.unless_busy(|ipset| {
            let mut request = ipset.request(IpsetCommand::Destroy, ACKNOWLEDGE);
            request.put_text(codec::NAME, name);
            ipset.write(request)
        });
        match destroyed {
            Ok(()) | Err(Failure::Refused { code: libc::ENOENT, .. }) => Ok(()),
            Err(failure) => Err(refused("destroy", name, failure)),
        }
    }

    fn edit(&mut self, command: IpsetCommand, members: &[Members<'_>]) -> Result<(), KernelError> {
        let act = if command == IpsetCommand::Add { "add to" } else { "remove from" };
        let mut requests = Requests::default();
        for own in members {
            if let Some(unfit) = own.elements.iter().find(|element| !codec::fits(element, own.kind)) {
                let reason =
                    format!("{unfit} is no element of a {} set of {}", own.kind.of.name(), own.kind.family);
                return Err(KernelError::Set { act, set: own.set.to_string(), reason, code: libc::EINVAL });
            }
            let mut rest = own.elements.iter().peekable();
            let mut sent = 0;
            while rest.peek().is_some() {
                let mut request = self.request(command, 0);
                request.put_text(codec::NAME, own.actual);
                let count = codec::put_elements(&mut request, sent, &mut rest);
                sent += count;
                if requests.datagram.len() + request.len() > REQUEST_MAX {
                    self.write_all(act, std::mem::take(&mut requests))?;
                }
                requests.add(&request, own, count);
            }
        }
        self.write_all(act, requests)
    }

    fn write_all(&mut self, act: &'static str, requests: Requests<'_, '_>) -> Result<(), KernelError> {
        self.writes += requests.datagram.count() as u64;
        self.netlink.write_all(requests.datagram).map_err(|(place, failure)| {
            let Members { set, elements, .. } = requests.about[place];
            match failure {
                Failure::Refused { code, request } => {
                    let culprit = codec::failed_line(&request)
                        .and_then(|line| elements.iter().nth(usize::try_from(line).ok()?));
                    let element = culprit.map(|element| format!("{element}: ")).unwrap_or_default();
                    let reason = format!("{element}{}", refusal::reason(code));
                    KernelError::Set { act, set: set.to_string(), reason, code }
                }
                Failure::Overrun | Failure::System(_) => refused(act, set.as_str(), failure),
            }
        })?;
        self.elements += u64::from(requests.elements);
        Ok(())
    }

    fn request(&self, command: IpsetCommand, flags: u16) -> Message {
        let mut request = Message::new(codec::SUBSYSTEM, command as u8, flags, 0);
        request.put(codec::PROTOCOL, &[self.protocol]);
        request
    }

    fn write(&mut self, request: Message) -> Result<(), Failure> {
        self.writes += 1;
        self.netlink.ask(request, |_| {})
    }

    fn unless_busy(
        &mut self,
        mut attempt: impl FnMut(&mut Ipset) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for _ in 1..BUSY_ATTEMPTS {
            match attempt(self) {
                Err(Failure::Refused { code: libc::EBUSY | refusal::BUSY, .. }) => {
                    std::thread::sleep(BUSY_PAUSE);
                }
                result => return result,
            }
        }
        attempt(self)
    }
}

/// Sets in the order of a dump, each in one or more messages.
#[derive(Default)]
struct Listed {
    listed_sets: Vec<(SetName, Kind, Vec<Element>)>,
}

impl Listed {
    /// Decodes one message. The first message of a set contains its kind, the others only its name.
    fn take(&mut self, message: &[u8], prefix: &str) {
        let Some(name) = codec::listed_name(message).filter(|name| name.starts_with(prefix)) else { return };
        if let Some(kind) = codec::listed_kind(message)
            && let Some(name) = SetName::new(name)
        {
            self.listed_sets.push((name, kind, Vec::new()));
        }
        if let Some((listed_sets, kind, elements)) = self.listed_sets.last_mut()
            && listed_sets.as_str() == name
        {
            elements.extend(codec::listed_elements(message, *kind));
        }
    }

    fn sets(self) -> BTreeMap<SetName, Set> {
        let set = |(name, kind, elements): (_, _, Vec<Element>)| {
            (name, Set { kind, elements: elements.into_iter().collect() })
        };
        self.listed_sets.into_iter().map(set).collect()
    }
}

/// The name of the set that is filled to be swapped with this one. It keeps the beginning of the name, by which its
/// owner is recognised.
fn spare_name(name: &SetName) -> String {
    let kept = name.as_str().len().min(SET_NAME_MAX - SPARE.len());
    format!("{}{SPARE}", &name.as_str()[..kept])
}

fn refused(act: &'static str, set: &str, failure: Failure) -> KernelError {
    match failure {
        Failure::Refused { code, .. } => {
            KernelError::Set { act, set: set.to_owned(), reason: refusal::reason(code).into_owned(), code }
        }
        Failure::Overrun | Failure::System(_) => KernelError::Netlink { act, source: failure.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Family;
    use crate::netfilter::ipset::Type;

    #[test]
    fn set_listed_in_several_messages_is_one_and_other_sets_are_skipped() {
        let kind = Kind { of: Type::HashIp, family: Family::V4 };
        let elements = [1, 2, 3].map(|last| Element::Address([10, 0, 0, last].into()));
        let message = |name: &str, kind: Option<Kind>, elements: &[Element]| {
            let mut message = Message::new(codec::SUBSYSTEM, IpsetCommand::List as u8, 0, 0);
            message.put_text(codec::NAME, name);
            kind.into_iter().for_each(|kind| codec::put_kind(&mut message, kind, 0));
            codec::put_elements(&mut message, 0, &mut elements.iter().peekable());
            message.attributes().to_vec()
        };
        let mut listed = Listed::default();
        for (name, kind, elements) in [
            ("BW-one", Some(kind), &elements[..1]),
            ("BW-one", None, &elements[1..2]),
            ("BW-strange", None, &elements[2..]),
            ("other", Some(kind), &elements[2..]),
            ("BW-empty", Some(kind), &[]),
        ] {
            listed.take(&message(name, kind, elements), "BW-");
        }
        let listed_sets: Vec<_> =
            listed.sets().into_iter().map(|(name, set)| (name.to_string(), set)).collect();
        let one = Set { kind, elements: elements[..2].iter().copied().collect() };
        let empty = Set { kind, elements: BTreeSet::new() };
        assert_eq!(listed_sets, [("BW-empty".to_owned(), empty), ("BW-one".to_owned(), one)]);
    }

    #[test]
    fn name_of_the_spare_set_is_legal_and_begins_like_the_set() {
        for length in [1, 26, 27, 28, 31] {
            let name = SetName::new(&"S".repeat(length)).expect("a legal name");
            let spare = spare_name(&name);
            assert!(SetName::new(&spare).is_some(), "{spare}");
            assert!(spare.starts_with(&name.as_str()[..length.min(27)]));
        }
    }
}
