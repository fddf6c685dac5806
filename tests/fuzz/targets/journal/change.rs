//! Changes to a good segment: what disks and people do to files.

use super::good::Good;

/// Bytes of the input for each change.
const CHANGE_BYTES: usize = 5;
/// Most changes that are made.
const MAX_CHANGES: usize = 8;
/// Length of a frame's header, and of one row of the table after it; `ingest/src/log/journal.rs` has the
/// layout.
const HEADER_BYTES: usize = 128;
const ROW_BYTES: usize = 24;
/// Longest payload that is decompressed to be forged.
const MAX_RAW_BYTES: usize = 1 << 16;

/// A changed segment.
pub(crate) struct Changed {
    pub(crate) segment: Vec<u8>,
    /// Numbers of the records in frames that are whole and in order.
    pub(crate) whole: Vec<usize>,
    /// True if a frame was changed and its checksums were made to fit.
    pub(crate) forged: bool,
}

/// Makes the changes that the input lists.
pub(crate) fn changed(good: &Good, input: &[u8]) -> Changed {
    let mut segment = good.segment.clone();
    let mut forged = false;
    for change in input.chunks_exact(CHANGE_BYTES).take(MAX_CHANGES) {
        let &[kind, low, high, byte, more] = change else { continue };
        let at = usize::from(u16::from_le_bytes([low, high])) % (segment.len() + 1);
        let end = (at + usize::from(byte)).min(segment.len());
        let frame = |number: u8| good.frame(usize::from(number) % good.frames()).to_vec();
        match kind % 8 {
            0 => segment[at..].iter_mut().take(1).for_each(|old| *old ^= byte),
            1 => segment.truncate(at),
            2 => drop(segment.drain(at..end)),
            3 => drop(segment.splice(at..at, vec![more; usize::from(byte)])),
            4 => drop(segment.splice(at..at, frame(byte))),
            5 => remove(&mut segment, &frame(byte)),
            6 => segment.extend(frame(byte)),
            _ => {
                let forgery = forge(frame(low), usize::from(high), byte, more);
                remove(&mut segment, &frame(low));
                segment.extend(forgery);
                forged = true;
            }
        }
    }
    let whole = whole(good, &segment);
    Changed { segment, whole, forged }
}

fn remove(segment: &mut Vec<u8>, frame: &[u8]) {
    if let Some(at) = find(segment, frame) {
        segment.drain(at..at + frame.len());
    }
}

/// Changes one byte of the header, the table or what is compressed in the payload, and makes all checksums
/// and lengths fit.
fn forge(mut frame: Vec<u8>, at: usize, byte: u8, part: u8) -> Vec<u8> {
    let u32_at = |frame: &[u8], at: usize| {
        u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
    };
    let table_end = HEADER_BYTES + u32_at(&frame, 24) as usize * ROW_BYTES;
    match part % 3 {
        // the checksums themselves are made anew, so a change to them is none
        0 => frame[12 + at % (HEADER_BYTES - 12)] = byte,
        1 => frame[HEADER_BYTES + at % (table_end - HEADER_BYTES)] = byte,
        _ => {
            let mut raw = zstd::bulk::decompress(&frame[table_end..], MAX_RAW_BYTES).expect("a good frame");
            let len = raw.len();
            raw[at % len] = byte;
            frame.truncate(table_end);
            frame.extend(zstd::bulk::compress(&raw, 1).expect("memory takes all"));
        }
    }
    let payload_len = u32::try_from(frame.len() - table_end).expect("a small frame");
    if part % 3 == 2 {
        frame[28..32].copy_from_slice(&payload_len.to_le_bytes());
    }
    for (field, bytes) in
        [(36, HEADER_BYTES..table_end), (40, table_end..frame.len()), (12, 16..HEADER_BYTES)]
    {
        let crc = crc32c::crc32c(&frame[bytes]);
        frame[field..field + 4].copy_from_slice(&crc.to_le_bytes());
    }
    frame
}

/// The records of all good frames that stand in the segment in order.
fn whole(good: &Good, segment: &[u8]) -> Vec<usize> {
    let (mut records, mut at, mut next) = (Vec::new(), 0, 0);
    while at < segment.len() {
        match (next..good.frames()).find(|number| segment[at..].starts_with(good.frame(*number))) {
            Some(number) => {
                records.extend(good.firsts[number]..good.firsts[number + 1]);
                at += good.frame(number).len();
                next = number + 1;
            }
            None => at += 1,
        }
    }
    records
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
