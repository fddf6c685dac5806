mod damage;
mod faults;
mod lifetime;
mod power;
mod sim;

use std::sync::Arc;

use watchbell_event::{Positions, Record};

use super::super::{Log, LogError};
use super::*;
use crate::testing::envelope;
use sim::SimDisk;

/// Small segments, so that a few appends fill several.
fn config() -> JournalConfig {
    JournalConfig {
        segment_bytes: 1500,
        group_wait_micros: 0,
        keep_free_bytes: 0,
        cache_bytes: 0,
        retention_seconds: 1,
        ..JournalConfig::default()
    }
}

fn open(disk: &SimDisk) -> Log {
    Log::Disk(Journal::open_on(Arc::new(disk.clone()), config()).unwrap())
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// Closes a log, so that its thread no longer uses the disk.
async fn close(log: Log) {
    log.close().await;
}

fn numbers(range: std::ops::Range<u64>) -> Vec<Envelope> {
    range.map(envelope).collect()
}

/// All records from `from` on, up to the end.
async fn read_all(log: &Log, from: u64) -> Vec<Record> {
    let mut reader = log.reader("test", &position(from)).unwrap();
    let mut records = Vec::new();
    while log.lag(&reader.positions()) > 0 {
        records.extend(reader.next(1000, 1 << 20).await.unwrap().records);
    }
    records
}

fn verified(disk: &SimDisk) -> VerifyReport {
    verify::verify_on(disk, Path::new("/sim")).unwrap()
}

#[track_caller]
fn assert_verifies(disk: &SimDisk) {
    let report = verified(disk);
    assert_eq!((report.broken, report.unfinished_bytes), (None, 0));
}
