use std::hash::{BuildHasher, Hasher, RandomState};

/// Hashes identities for tables. They are hashes already, but a sender can make many that agree in some bits;
/// mixed with two secret numbers, those do not fall into one place of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    add: u64,
    multiply: u64,
}

/// What is hashed: the last eight bytes written, which are those of the identity.
pub(crate) struct Mixing(Mix, u64);

impl Mix {
    pub(crate) fn new() -> Self {
        let random = || RandomState::new().hash_one(0);
        Self { add: random(), multiply: random() | 1 }
    }
}

impl BuildHasher for Mix {
    type Hasher = Mixing;

    fn build_hasher(&self) -> Mixing {
        Mixing(*self, 0)
    }
}

impl Hasher for Mixing {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk() {
            self.1 = u64::from_le_bytes(*last);
        }
    }

    fn finish(&self) -> u64 {
        let Self(Mix { add, multiply }, value) = *self;
        let product = (value ^ add).wrapping_mul(multiply);
        // tables take the low bits, on which the high ones had no influence so far
        product ^ product >> 32
    }
}
