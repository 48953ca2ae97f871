//! Networks in settings: `10.1.0.0/16`, `2001:db8::/32`, a single address, or an address with a port.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use domain::error::shown;
use serde::Deserialize;

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether the address lies in it. An IPv4 address mapped into IPv6 counts as what it stands for.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                first.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                first.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let refuse = || format!("{} is no network; write one like 10.1.0.0/16 or 192.0.2.7", shown(text));
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| refuse())?)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| refuse())?;
        let longest = if first.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(longest);
        (prefix <= longest).then_some(Network { first, prefix }).ok_or_else(refuse)
    }
}

/// What may be reached although it is not public: a network on every allowed port, or one address on one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedAddress {
    /// Where.
    pub network: Network,
    /// Only this port, which then needs no other permission.
    pub port: Option<u16>,
}

impl AllowedAddress {
    /// One address on one port.
    pub fn exactly(address: SocketAddr) -> AllowedAddress {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        AllowedAddress { network: Network { first: address.ip(), prefix }, port: Some(address.port()) }
    }
}

impl FromStr for AllowedAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<AllowedAddress, String> {
        match text.parse::<SocketAddr>() {
            Ok(address) => Ok(AllowedAddress::exactly(address)),
            Err(_) => text.parse().map(|network| AllowedAddress { network, port: None }),
        }
    }
}

macro_rules! read_from_text {
    ($($name:ident),*) => { $(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )* };
}

read_from_text!(Network, AllowedAddress);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_what_they_should() {
        for (network, address, inside) in [
            ("10.1.0.0/16", "10.1.2.3", true),
            ("10.1.0.0/16", "10.2.2.3", false),
            ("10.1.0.0/16", "::ffff:10.1.2.3", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "203.0.113.9", false),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), inside, "{network:?} {address}");
        }
        for text in ["", "10.0.0.0/33", "10.0.0/8", "host", "::/129", "10.0.0.0/-1"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        assert_eq!("127.0.0.1:9000".parse::<AllowedAddress>().unwrap().port, Some(9000));
    }
}
