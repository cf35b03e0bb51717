//! The kernel's error numbers in words, with what to do.

use crate::netfilter::ipset::MAX_ELEMENTS;
use nix::libc;
use std::borrow::Cow;

/// IPSET_ERR_* (linux/netfilter/ipset/ip_set.h and ip_set_hash.h).
pub(super) const PROTOCOL: i32 = 4097;
const FIND_TYPE: i32 = 4098;
const MAX_SETS: i32 = 4099;
pub(super) const BUSY: i32 = 4100;
const EXIST_SECOND_NAME: i32 = 4101;
const TYPE_MISMATCH: i32 = 4102;
const EXIST: i32 = 4103;
const INVALID_CIDR: i32 = 4104;
const INVALID_FAMILY: i32 = 4106;
const REFERENCED: i32 = 4108;
const IPADDR_IPV4: i32 = 4109;
const IPADDR_IPV6: i32 = 4110;
const HASH_FULL: i32 = 4352;
const HASH_ELEMENT: i32 = 4353;
const INVALID_PROTOCOL: i32 = 4354;
const MISSING_PROTOCOL: i32 = 4355;

/// The meaning of a (positive) error number of an ipset request.
pub(super) fn reason(code: i32) -> Cow<'static, str> {
    match code {
        libc::ENOENT => "there is no set of that name".into(),
        libc::EEXIST => "a set of that name is there already".into(),
        libc::EPERM => "the process lacks the permission; give it the capability CAP_NET_ADMIN".into(),
        libc::EINVAL => "the kernel has no ipset, or does not know this request; load it: modprobe ip_set".into(),
        libc::EBUSY => "another process is reading or growing it; try again".into(),
        libc::ENOMEM => "the kernel is out of memory".into(),
        PROTOCOL => "the kernel does not understand the request (ipset protocol error)".into(),
        FIND_TYPE => {
            "the kernel has no such set type; load it: modprobe -a ip_set_hash_ip ip_set_hash_net ip_set_hash_ipport"
                .into()
        }
        MAX_SETS => "the kernel holds as many sets as it can".into(),
        BUSY | REFERENCED => "a rule still refers to it".into(),
        EXIST_SECOND_NAME => "there is no set of the second name".into(),
        TYPE_MISMATCH => "the set in place is of another type or family".into(),
        EXIST => "the element is there already, or gone already".into(),
        INVALID_CIDR => "the kernel takes no prefix of this length".into(),
        INVALID_FAMILY | IPADDR_IPV4 | IPADDR_IPV6 => "the address is of the other family".into(),
        HASH_FULL => format!("the set is full, it may hold {MAX_ELEMENTS} elements").into(),
        HASH_ELEMENT => "the kernel takes no element of all zeroes".into(),
        INVALID_PROTOCOL | MISSING_PROTOCOL => "the protocol is not one the set type knows".into(),
        code if code < 4096 => std::io::Error::from_raw_os_error(code).to_string().into(),
        code => format!("ipset error {code}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_number_has_words() {
        assert_eq!(reason(BUSY), "a rule still refers to it");
        assert!(reason(HASH_FULL).contains("full"));
        assert!(reason(libc::EIO).contains("Input/output"));
        assert_eq!(reason(4400), "ipset error 4400");
        for code in 0..5000 {
            assert!(!reason(code).is_empty());
        }
    }
}
