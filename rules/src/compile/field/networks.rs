//! Finds which of many blocks an address lies in, by one search among all of them.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::compile::{AtomId, index};

/// Blocks, by the family of their addresses.
#[derive(Default)]
pub(super) struct Networks {
    v4: Blocks,
    v6: Blocks,
}

/// Blocks of one family. Two of them are apart, or one lies in the other; so the blocks around an address are
/// found by following links from the last block that does not begin behind it.
#[derive(Default)]
struct Blocks(Vec<Block>);

struct Block {
    first: u128,
    last: u128,
    atom: AtomId,
    /// The smallest other block around this one.
    parent: Option<u32>,
}

impl Networks {
    pub(super) fn add(&mut self, network: IpNet, atom: AtomId) {
        let (first, last) = (number(network.network()), number(network.broadcast()));
        let blocks = match network {
            IpNet::V4(_) => &mut self.v4,
            IpNet::V6(_) => &mut self.v6,
        };
        blocks.0.push(Block { first, last, atom, parent: None });
    }

    /// Must be called before anything is looked up.
    pub(super) fn finish(&mut self) {
        self.v4.link();
        self.v6.link();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }

    pub(super) fn find(&self, address: IpAddr, mark: &mut impl FnMut(AtomId)) {
        match address {
            IpAddr::V4(_) => self.v4.find(number(address), mark),
            IpAddr::V6(_) => self.v6.find(number(address), mark),
        }
    }
}

impl Blocks {
    fn link(&mut self) {
        let blocks = &mut self.0;
        blocks.sort_by_key(|block| (block.first, std::cmp::Reverse(block.last)));
        let mut open: Vec<usize> = Vec::new();
        for at in 0..blocks.len() {
            while open.last().is_some_and(|around| blocks[*around].last < blocks[at].first) {
                open.pop();
            }
            blocks[at].parent = open.last().map(|around| index(*around));
            open.push(at);
        }
    }

    fn find(&self, address: u128, mark: &mut impl FnMut(AtomId)) {
        let behind = self.0.partition_point(|block| block.first <= address);
        let mut next = behind.checked_sub(1);
        while let Some(block) = next.and_then(|at| self.0.get(at)) {
            if address <= block.last {
                mark(block.atom);
            }
            next = block.parent.map(|parent| parent as usize);
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_blocks_around_an_address_are_found() {
        let blocks = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.3/32",
            "10.2.0.0/16",
            "11.0.0.0/8",
            "::/0",
            "fd00::/8",
        ];
        let mut networks = Networks::default();
        for (number, block) in blocks.iter().enumerate() {
            networks.add(block.parse().unwrap(), index(number));
        }
        networks.finish();
        for address in
            ["10.1.2.3", "10.1.255.255", "10.3.0.0", "11.0.0.0", "255.255.255.255", "::1", "fdff::"]
        {
            let address: IpAddr = address.parse().unwrap();
            let mut found = Vec::new();
            networks.find(address, &mut |atom| found.push(blocks[atom as usize]));
            found.sort_unstable();
            let around = |block: &&str| block.parse::<IpNet>().unwrap().contains(&address);
            let expected: Vec<_> = blocks.into_iter().filter(around).collect();
            assert_eq!(found, expected, "{address}");
        }
    }
}
