//! Which addresses may be sent to. Whoever may configure a receiver must not be able to make this process
//! talk to a cloud's metadata service, which hands out credentials to whoever asks from the inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Decides about addresses, after names were resolved.
#[derive(Clone, Copy, Debug, Default)]
pub struct Guard {
    /// Allows link-local and metadata addresses.
    pub allow_link_local: bool,
}

/// Metadata services that do not live on a link-local address: Alibaba, Azure, Oracle.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// The same for IPv6: AWS, Google.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// The address is one that nobody is sent anything at.
#[derive(Debug, thiserror::Error)]
#[error("refused: the name leads to a link-local or metadata address")]
pub(crate) struct Forbidden;

impl Guard {
    /// True if the address may be sent to.
    #[must_use]
    pub fn allows(self, address: IpAddr) -> bool {
        self.allow_link_local
            || match address {
                IpAddr::V4(v4) => allows_v4(v4),
                IpAddr::V6(v6) => allows_v6(v6),
            }
    }

    /// Resolves a name to the addresses that may be sent to. One forbidden address condemns all: a name
    /// that leads there is either an attack or a mistake.
    pub(crate) async fn resolve(self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
        match found.iter().all(|address| self.allows(address.ip())) {
            true => Ok(found),
            false => Err(std::io::Error::other(Forbidden)),
        }
    }
}

fn allows_v4(address: Ipv4Addr) -> bool {
    !(address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || METADATA_V4.contains(&address))
}

fn allows_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = match segments {
        // IPv4-mapped, IPv4-compatible, and NAT64: the IPv4 address stands at the end.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some((high, low)),
        // 6to4: it stands after the prefix.
        [0x2002, high, low, ..] => Some((high, low)),
        _ => None,
    };
    let embedded = embedded.map(|(high, low)| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    embedded.is_none_or(allows_v4)
        && !(segments[0] & 0xffc0 == 0xfe80 || address.is_multicast() || METADATA_V6.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_judged_by_where_they_lead() {
        let resolve =
            |host, allow_link_local| async move { Guard { allow_link_local }.resolve(host, 80).await };
        assert!(resolve("localhost", false).await.is_ok_and(|found| !found.is_empty()));
        assert!(
            resolve("169.254.169.254", false).await.is_err_and(|error| error.to_string().contains("refused"))
        );
        assert!(resolve("169.254.169.254", true).await.is_ok());
    }

    #[test]
    fn link_local_and_metadata_addresses_are_refused_in_every_spelling() {
        for (address, allowed) in [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("192.168.0.1", true),
            ("100.64.0.1", true),
            ("8.8.8.8", true),
            ("169.254.169.254", false),
            ("169.254.0.1", false),
            ("100.100.100.200", false),
            ("168.63.129.16", false),
            ("192.0.0.192", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::1", true),
            ("fd12::1", true),
            ("2001:db8::1", true),
            ("fe80::1", false),
            ("febf::1", false),
            ("fec0::1", true),
            ("fd00:ec2::254", false),
            ("fd20:ce::254", false),
            ("::ffff:169.254.169.254", false),
            ("::ffff:10.0.0.1", true),
            ("::169.254.169.254", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("64:ff9b::808:808", true),
            ("2002:a9fe:a9fe::1", false),
            ("ff02::1", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(Guard::default().allows(address), allowed, "{address}");
            assert!(Guard { allow_link_local: true }.allows(address), "{address}");
        }
    }
}
