//! The journal over damaged segments: opening and reading never panics, gives no record that was not
//! appended, loses none whose frame is whole, and goes on taking records.
//!
//! An input is a list of changes to a good segment; see [`Change`].
#![no_main]

mod journal {
    pub(crate) mod change;
    pub(crate) mod good;
}

use std::path::Path;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use watchbell_event::{Positions, Record};
use watchbell_ingest::log::{Journal, Log, LogError, recover_bytes, verify};

use journal::change::{Changed, changed};
use journal::good::{GOOD, SEGMENT, config, directory, envelope, runtime};

/// Numbers of envelopes that are appended after the damage.
const NEW: u16 = 1000;

fuzz_target!(|data: &[u8]| {
    let _ = recover_bytes(&Bytes::copy_from_slice(data));
    let changed = changed(&GOOD, data);
    // How many records this gives says nothing: without the journal's own file frames of any marker count.
    let _ = recover_bytes(&Bytes::copy_from_slice(&changed.segment));

    let directory = directory();
    std::fs::write(directory.path().join("journal"), &GOOD.meta).expect("a free disk");
    std::fs::write(directory.path().join(SEGMENT), &changed.segment).expect("a free disk");
    let proof = verify(directory.path()).expect("files that can be read");
    if changed.segment == GOOD.segment {
        assert_eq!((proof.broken, proof.records), (None, GOOD.records.len() as u64));
    } else if proof.broken.is_none() {
        let len =
            changed.segment.len() - usize::try_from(proof.unfinished_bytes).expect("less than a segment");
        assert!(
            changed.forged || GOOD.segment.starts_with(&changed.segment[..len]),
            "a change is not proved"
        );
    }
    runtime().block_on(reopen(directory.path(), &changed));
});

/// Opens the journal twice: what is found stays found, and what is appended follows it.
async fn reopen(directory: &Path, changed: &Changed) {
    let mut before: Option<Vec<Record>> = None;
    for number in 0..2 {
        let log = Log::Disk(Journal::open(directory, config()).expect("damage does not prevent a start"));
        let end = log.end().next(0);
        let appended = log.append(&[envelope(NEW + number)]).await;
        log.close().await;
        let mut records = read(&log).await;
        if let Ok(positions) = appended {
            let last = records.pop().expect("what was just appended");
            assert_eq!((last.position, last.envelope), (positions[0], envelope(NEW + number)));
            assert!(positions[0].offset >= end);
        }
        assert!(records.windows(2).all(|pair| pair[0].position < pair[1].position));
        let kept = |record: &Record| record.position.offset < GOOD.records.len() as u64;
        match before.take() {
            None if !changed.forged => {
                for record in &records {
                    assert!(kept(record) && GOOD.records.contains(record), "invented {record:?}");
                }
                for whole in &changed.whole {
                    assert!(records.contains(&GOOD.records[*whole]), "lost record {whole}");
                }
            }
            None => {}
            Some(before) => assert!(records.starts_with(&before) && records.len() <= before.len() + 1),
        }
        before = Some(records);
    }
}

async fn read(log: &Log) -> Vec<Record> {
    let mut reader = log.reader("fuzz", &Positions::default()).expect("a name");
    let mut records = Vec::new();
    loop {
        match reader.next(3, 1 << 20).await {
            Ok(batch) => records.extend(batch.records),
            Err(LogError::Closed) => return records,
            Err(error) => panic!("{error}"),
        }
    }
}
