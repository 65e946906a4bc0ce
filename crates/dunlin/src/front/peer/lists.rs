//! Who may come in at all, by address.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::DoorConfig;

/// Lists of networks; what is denied is denied even if it is allowed.
pub(crate) struct AddressLists {
    /// Who may come in; empty = everybody.
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

impl AddressLists {
    /// As the operator wrote them.
    pub(crate) fn new(config: &DoorConfig) -> Self {
        Self { allow: config.allow.clone(), deny: config.deny.clone() }
    }

    /// Everybody may come in.
    pub(crate) fn none() -> Self {
        Self { allow: Vec::new(), deny: Vec::new() }
    }

    /// Whether a client at this address may come in.
    pub(crate) fn permit(&self, address: IpAddr) -> bool {
        let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        (self.allow.is_empty() || is_in(&self.allow)) && !is_in(&self.deny)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_is_denied_and_a_list_of_the_allowed_is_complete() {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        for (allow, deny, address, expected) in [
            (&[][..], &[][..], "192.0.2.1", true),
            (&[], &["192.0.2.0/24"], "192.0.2.1", false),
            (&[], &["192.0.2.0/24"], "192.0.3.1", true),
            (&[], &["2001:db8::/32"], "2001:db8::1", false),
            (&[], &["::/0"], "192.0.2.1", true),
            (&["192.0.2.0/24"], &[], "192.0.2.1", true),
            (&["192.0.2.0/24"], &[], "2001:db8::1", false),
            (&["192.0.2.0/24"], &["192.0.2.1/32"], "192.0.2.1", false),
            (&["192.0.2.0/24"], &["192.0.2.1/32"], "192.0.2.2", true),
        ] {
            let lists = AddressLists { allow: networks(allow), deny: networks(deny) };
            let permitted = lists.permit(address.parse().unwrap());
            assert_eq!(permitted, expected, "{allow:?} {deny:?} {address}");
        }
    }
}
