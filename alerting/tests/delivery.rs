//! From a committed detection to what arrives at a receiver, through the crate's public interface.

#[cfg(test)]
mod delivery {
    mod email;
    mod failures;
    mod http;
    mod rig;
    mod smtp;
    mod storms;
    mod tls;
    mod webhook;
}
