//! Power fails at every single step of a workload.

use std::collections::BTreeMap;

use super::sim::{Dice, Plan};
use super::*;

/// What a workload was told.
#[derive(Default)]
struct Told {
    /// The number of the event that was acknowledged at an offset.
    stored: BTreeMap<u64, u64>,
    checkpoint: u64,
    /// The last checkpoint that was tried.
    tried: u64,
    submitted: u64,
    /// Offsets that a retention may have deleted.
    deletable: u64,
}

impl Told {
    async fn append(&mut self, log: &Log, count: u64) -> bool {
        let events = numbers(self.submitted..self.submitted + count);
        let first = self.submitted;
        self.submitted += count;
        let Ok(positions) = log.append(&events).await else { return false };
        self.stored.extend(positions.iter().map(|position| position.offset).zip(first..));
        true
    }

    async fn checkpoint(&mut self, log: &Log, at: u64) -> bool {
        self.tried = at;
        let stored = log.checkpoint("test", &position(at)).await.is_ok();
        self.checkpoint = if stored { at } else { self.checkpoint };
        stored
    }

    /// Appends, moves the reader, deletes segments, and stops at the first failure.
    async fn work(&mut self, log: &Log) -> bool {
        for round in 0..4 {
            for count in [1, 3, 2] {
                if !self.append(log, count).await {
                    return false;
                }
            }
            let at = log.end().next(0) - 1;
            if !self.checkpoint(log, at).await {
                return false;
            }
            if round == 2 {
                self.deletable = at;
                let long_after = envelope(0).received_at.plus_micros(1_000_000_000);
                if log.retain(long_after).await.is_err() {
                    return false;
                }
            }
        }
        true
    }

    /// Everything that was acknowledged is there once, in order, and nothing that was not submitted.
    async fn check(&self, log: &Log) {
        let oldest = log.status().oldest.next(0);
        assert!(oldest <= self.deletable, "records were deleted that must be kept");
        let records = read_all(log, oldest).await;
        let found: BTreeMap<u64, u64> =
            records.iter().map(|record| (record.position.offset, number(&record.envelope))).collect();
        assert_eq!(found.len(), records.len());
        for (offset, number) in self.stored.range(oldest..) {
            assert_eq!(found.get(offset), Some(number), "at {offset}");
        }
        assert!(found.values().is_sorted() && found.values().all(|number| *number < self.submitted));
        let lost: Vec<_> = log.status().corruptions.into_iter().filter(|report| !report.torn_tail).collect();
        assert_eq!(lost, []);
        let checkpoint = log.checkpointed("test").next(0);
        assert!(checkpoint == self.checkpoint || checkpoint == self.tried);
    }
}

/// The number that made an envelope, which must be unchanged.
fn number(found: &Envelope) -> u64 {
    let text = str::from_utf8(&found.bytes).unwrap();
    let number = text[12..20].parse().unwrap();
    assert_eq!(*found, envelope(number));
    number
}

/// Opens, checks, goes on working, and checks again.
async fn recover(disk: &SimDisk, told: &mut Told) {
    let log = open(disk);
    told.check(&log).await;
    assert_verifies(disk);
    told.checkpoint = log.checkpointed("test").next(0);
    assert!(told.append(&log, 2).await);
    told.check(&log).await;
    close(log).await;
    assert_verifies(disk);
}

#[test]
fn nothing_acknowledged_is_lost_wherever_power_fails() {
    let whole = SimDisk::default();
    let mut told = Told::default();
    run(async {
        let log = open(&whole);
        assert!(told.work(&log).await);
        told.check(&log).await;
        assert!(log.status().oldest.next(0) > 0, "the workload deletes no segment");
        close(log).await;
    });
    assert!(whole.steps() > 60, "{}", whole.steps());
    for cut_at in 1..=whole.steps() {
        for seed in 0..4 {
            power_fails(cut_at, seed);
        }
    }
}

fn power_fails(cut_at: usize, seed: u64) {
    let disk = SimDisk::default();
    disk.plan(Plan { cut_at: Some(cut_at), ..Plan::default() });
    let mut told = Told::default();
    run(async {
        if let Ok(journal) = Journal::open_on(Arc::new(disk.clone()), config()) {
            let log = Log::Disk(journal);
            assert!(!told.work(&log).await || disk.steps() < cut_at);
            close(log).await;
        }
        let disk = disk.reboot(seed);
        // power fails once more, during recovery
        let again = Dice::new(seed + cut_at as u64).below(8);
        disk.plan(Plan { cut_at: Some(again), ..Plan::default() });
        if let Ok(journal) = Journal::open_on(Arc::new(disk.clone()), config()) {
            close(Log::Disk(journal)).await;
        }
        recover(&disk.reboot(seed), &mut told).await;
    });
}
