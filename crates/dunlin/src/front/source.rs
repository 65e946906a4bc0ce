//! Where a socket comes from, as far as anything is counted by it. Who has one IPv6 address has a
//! whole network of them: the last 64 bits are anybody's choice, and many are given a /48.

use std::net::IpAddr;

use smallvec::SmallVec;

/// What is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// An IPv4 address.
    Address(u32),
    /// An IPv6 network of 64 bits.
    Network64(u64),
    /// An IPv6 network of 48 bits.
    Network48(u64),
}

/// All that an address is counted for.
pub(crate) type Sources = SmallVec<[Source; 2]>;

impl Source {
    /// All that `address` is counted for.
    pub(crate) fn all(address: IpAddr) -> Sources {
        match address.to_canonical() {
            IpAddr::V4(address) => Sources::from_iter([Self::Address(address.to_bits())]),
            IpAddr::V6(address) => {
                let network = u64::try_from(address.to_bits() >> 64).expect("64 bits are left");
                Sources::from_iter([Self::Network64(network), Self::Network48(network >> 16)])
            }
        }
    }

    /// How many times the bound of an address it may have.
    pub(crate) fn share(self) -> u32 {
        match self {
            Self::Address(_) | Self::Network64(_) => 1,
            Self::Network48(_) => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(address: &str) -> Sources {
        Source::all(address.parse().unwrap())
    }

    #[test]
    fn an_address_counts_for_its_networks() {
        assert_eq!(all("192.0.2.1").len(), 1);
        assert_eq!(all("192.0.2.1"), all("::ffff:192.0.2.1"));
        assert_ne!(all("192.0.2.1"), all("192.0.2.2"));

        let [first, near, far] =
            ["2001:db8:0:1::1", "2001:db8:0:1:f::2", "2001:db8:0:2::1"].map(all);
        assert_eq!(first, near);
        assert_ne!(first[0], far[0]);
        assert_eq!(first[1], far[1]);
        assert_ne!(first[1], all("2001:db8:1::1")[1]);
    }
}
