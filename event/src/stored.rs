//! The stored form of an envelope; the leaves of the Merkle tree are hashes of these bytes.
//!
//! ```text
//!  0  1  version, 1
//!  1  1  format: 1 = Kubernetes audit, 2 = log
//!  2  1  flags: 1 = history, 2 = peer is IPv4, 4 = peer is IPv6
//!  3 16  event id
//! 19  8  received_at, microseconds, little-endian
//! 27  8  event_time
//! 35  2  length of the source's name, little-endian
//! 37  2  length of the cluster's name
//! 39  …  peer (4 or 16 bytes, if any), source, cluster, and to the end the event's bytes
//! ```
//! Where several stand together, the length of each (4 bytes, little-endian) stands before it.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::{ENVELOPE_VERSION, Envelope, EventId, Format, Timestamp};

const FIXED_BYTES: usize = 39;
/// What the stored form of an envelope needs beyond the event and its names, at most.
pub const OVERHEAD_BYTES: usize = FIXED_BYTES + 16;
const HISTORY: u8 = 1;
const PEER_V4: u8 = 2;
const PEER_V6: u8 = 4;

/// Appends the stored form to `out`. Names are cut at 65,535 bytes.
pub fn write(envelope: &Envelope, out: &mut Vec<u8>) {
    let peer = match envelope.peer {
        None => (0, Vec::new()),
        Some(IpAddr::V4(address)) => (PEER_V4, address.octets().to_vec()),
        Some(IpAddr::V6(address)) => (PEER_V6, address.octets().to_vec()),
    };
    let (source, source_len) = name(&envelope.source);
    let (cluster, cluster_len) = name(&envelope.cluster);
    let format = match envelope.format {
        Format::KubernetesAudit => 1,
        Format::Log => 2,
    };
    let flags = peer.0 | if envelope.history { HISTORY } else { 0 };
    out.extend_from_slice(&[ENVELOPE_VERSION, format, flags]);
    out.extend_from_slice(&envelope.id.0);
    out.extend_from_slice(&envelope.received_at.as_micros().to_le_bytes());
    out.extend_from_slice(&envelope.event_time.as_micros().to_le_bytes());
    out.extend_from_slice(&source_len.to_le_bytes());
    out.extend_from_slice(&cluster_len.to_le_bytes());
    out.extend_from_slice(&peer.1);
    out.extend_from_slice(source);
    out.extend_from_slice(cluster);
    out.extend_from_slice(&envelope.bytes);
}

/// Appends the stored form behind its length, and says where it stands. Longer ones than 4 GiB are not to be given.
pub fn write_with_length(envelope: &Envelope, out: &mut Vec<u8>) -> Range<usize> {
    let start = out.len() + 4;
    out.extend_from_slice(&[0; 4]);
    write(envelope, out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start - 4..start].copy_from_slice(&length.to_le_bytes());
    start..out.len()
}

fn name(name: &str) -> (&[u8], u16) {
    let cut = &name[..name.floor_char_boundary(usize::from(u16::MAX))];
    (cut.as_bytes(), u16::try_from(cut.len()).unwrap_or(u16::MAX))
}

/// Envelopes that the log keeps together, as it keeps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Their stored forms, each behind its length, compressed with zstd.
    pub payload: Bytes,
    /// How long that is when decompressed.
    pub raw_len: usize,
}

/// The stored envelopes that stand together in `raw`, as far as they can be told apart.
pub fn envelopes(raw: &Bytes) -> impl Iterator<Item = Bytes> + '_ {
    places(raw).map(|place| raw.slice(place))
}

/// Where they stand.
pub fn places(raw: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let len = u32::from_le_bytes(array(raw, at)?) as usize;
        let start = at + 4;
        at = start.checked_add(len).filter(|end| *end <= raw.len())?;
        Some(start..at)
    })
}

/// Reads stored envelopes; names that repeat share their memory.
#[derive(Debug, Default)]
pub struct Reader {
    source: Option<Arc<str>>,
    cluster: Option<Arc<str>>,
}

impl Reader {
    /// Reads one envelope; its bytes share the memory of `stored`. None if it is not one.
    #[must_use]
    pub fn read(&mut self, stored: &Bytes) -> Option<Envelope> {
        let [version, format, flags]: [u8; 3] = *stored.first_chunk()?;
        if version != ENVELOPE_VERSION || flags & !(HISTORY | PEER_V4 | PEER_V6) != 0 {
            return None;
        }
        let format = match format {
            1 => Format::KubernetesAudit,
            2 => Format::Log,
            _ => return None,
        };
        let micros = |at: usize| array(stored, at).map(i64::from_le_bytes).map(Timestamp::from_micros);
        let length = |at: usize| array(stored, at).map(u16::from_le_bytes).map(usize::from);
        let (peer, peer_len) = match flags & (PEER_V4 | PEER_V6) {
            0 => (None, 0),
            PEER_V4 => (Some(IpAddr::from(array::<4>(stored, FIXED_BYTES)?)), 4),
            PEER_V6 => (Some(IpAddr::from(array::<16>(stored, FIXED_BYTES)?)), 16),
            _ => return None,
        };
        let source_end = FIXED_BYTES + peer_len + length(35)?;
        let cluster_end = source_end + length(37)?;
        let source = shared(&mut self.source, stored.get(FIXED_BYTES + peer_len..source_end)?)?;
        let cluster = shared(&mut self.cluster, stored.get(source_end..cluster_end)?)?;
        Some(Envelope {
            id: EventId(array(stored, 3)?),
            received_at: micros(19)?,
            event_time: micros(27)?,
            source,
            cluster,
            format,
            peer,
            history: flags & HISTORY != 0,
            bytes: stored.slice(cluster_end..),
        })
    }
}

fn shared(last: &mut Option<Arc<str>>, name: &[u8]) -> Option<Arc<str>> {
    if let Some(last) = last.as_ref().filter(|last| last.as_bytes() == name) {
        return Some(last.clone());
    }
    let name: Arc<str> = str::from_utf8(name).ok()?.into();
    *last = Some(name.clone());
    Some(name)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_no_other_bytes_make_the_reader_panic() {
        for (peer, format) in
            [None, Some("10.0.0.1"), Some("fe80::1")].into_iter().zip(Format::ALL.into_iter().cycle())
        {
            let envelope = Envelope {
                id: EventId([7; 16]),
                received_at: Timestamp::from_micros(1),
                event_time: Timestamp::from_micros(-2),
                source: "audit".into(),
                cluster: "größe".into(),
                format,
                peer: peer.map(|peer| peer.parse().unwrap()),
                history: peer.is_none(),
                bytes: Bytes::from_static(b"{}"),
            };
            let mut stored = Vec::new();
            write(&envelope, &mut stored);
            assert!(stored.len() <= OVERHEAD_BYTES + 5 + 7 + 2);
            let stored = Bytes::from(stored);
            assert_eq!(Reader::default().read(&stored), Some(envelope));
            for end in 0..stored.len() - 2 {
                assert_eq!(Reader::default().read(&stored.slice(..end)), None, "{end}");
            }
        }
    }
}
