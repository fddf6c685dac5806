//! The Merkle tree of RFC 9162 (certificate transparency) with BLAKE3: leaves and inner nodes are hashed
//! under different prefixes, so that neither can pass for the other.

/// A BLAKE3 hash.
pub(crate) type Hash = [u8; 32];

/// The leaf for an event's stored bytes.
pub(crate) fn leaf(stored: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[0]).update(stored);
    hasher.finalize().into()
}

/// The root over leaves in order. A node without a sibling moves up unchanged.
pub(crate) fn root(leaves: &[Hash]) -> Hash {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = level.chunks(2).map(parent).collect();
    }
    level.first().copied().unwrap_or_else(|| blake3::hash(b"").into())
}

fn parent(children: &[Hash]) -> Hash {
    match children {
        [left, right] => {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&[1]).update(left).update(right);
            hasher.finalize().into()
        }
        [only, ..] => *only,
        [] => [0; 32],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_follows_content_order_and_number() {
        let leaves: Vec<Hash> = (0..5u8).map(|n| leaf(&[n])).collect();
        let (pair, other) = (parent(&leaves[0..2]), parent(&leaves[2..4]));
        assert_eq!(root(&leaves), parent(&[parent(&[pair, other]), leaves[4]]));
        assert_ne!(root(&leaves), root(&leaves[..4]));
        let swapped = [leaves[1], leaves[0], leaves[2], leaves[3], leaves[4]];
        assert_ne!(root(&leaves), root(&swapped));
        assert_ne!(leaf(&[&[1][..], &leaves[0], &leaves[1]].concat()), pair);
    }
}
