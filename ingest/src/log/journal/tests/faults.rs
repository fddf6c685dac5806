//! Disks that fail or are full.

use super::sim::Plan;
use super::*;
use crate::log::{AppendError, FullReason, LogState};

#[test]
fn after_a_failed_sync_nothing_is_appended_until_it_is_opened_anew() {
    let probe = SimDisk::default();
    let opened = run(async {
        let log = open(&probe);
        let opened = probe.steps();
        log.append(&numbers(0..2)).await.unwrap();
        close(log).await;
        opened
    });
    // the first append makes the segment, writes, syncs and syncs the directory; the second writes and syncs
    for (sync_error_at, acknowledged) in [(opened + 3, 0), (opened + 6, 2)] {
        let disk = SimDisk::default();
        run(async {
            let log = open(&disk);
            disk.plan(Plan { sync_error_at: Some(sync_error_at), ..Plan::default() });
            let first = log.append(&numbers(0..2)).await;
            let second = log.append(&numbers(2..4)).await;
            assert_eq!(first.is_ok(), acknowledged > 0);
            assert!(matches!(second, Err(AppendError::Failed(_))));
            assert!(matches!(log.status().state, LogState::Failed(_)));
            assert!(matches!(log.append(&numbers(4..5)).await, Err(AppendError::Failed(_))));
            assert_eq!(read_all(&log, 0).await.len(), acknowledged);
            close(log).await;
            let disk = disk.reboot(0);
            let log = open(&disk);
            assert_eq!(read_all(&log, 0).await.len(), acknowledged);
            log.append(&numbers(2..4)).await.unwrap();
            assert_eq!(read_all(&log, 0).await.len(), acknowledged + 2);
            close(log).await;
            assert_verifies(&disk);
        });
    }
}

#[test]
fn a_full_disk_refuses_and_takes_again_when_there_is_room() {
    let disk = SimDisk::default();
    run(async {
        let log = open(&disk);
        log.append(&numbers(0..3)).await.unwrap();
        let used: usize =
            disk.names().iter().filter_map(|name| disk.content(name)).map(|file| file.len()).sum();
        // within the segment, and where a new segment would begin
        let mut next = 3;
        for room in [0, 50, 120, 200, 0, 300] {
            disk.plan(Plan { capacity: Some(used + room), ..Plan::default() });
            let refused = log.append(&numbers(1000..1010)).await;
            assert_eq!(refused, Err(AppendError::Full(FullReason::NoSpace)));
            assert_eq!(log.status().state, LogState::Full(FullReason::NoSpace));
            assert_eq!(segment_bytes(&disk), log.status().bytes, "what was written of the frame is gone");
            disk.plan(Plan::default());
            log.append(&numbers(next..next + 3)).await.unwrap();
            assert_eq!(log.status().state, LogState::Open);
            next += 3;
        }
        let records = read_all(&log, 0).await;
        assert!(records.iter().map(|record| &record.envelope).eq(&numbers(0..next)));
        assert_eq!(log.status().corruptions, []);
        close(log).await;
    });
    assert!(disk.names().iter().filter(|name| name.ends_with(".wbj")).count() > 1);
    assert_verifies(&disk);
}

fn segment_bytes(disk: &SimDisk) -> u64 {
    let segments = disk.names().into_iter().filter(|name| name.ends_with(".wbj"));
    segments.map(|name| disk.content(&name).unwrap().len() as u64).sum()
}

#[test]
fn bounds_of_size_free_space_queue_and_append() {
    let disk = SimDisk::default();
    run(async {
        let small = JournalConfig { max_bytes: 2000, keep_free_bytes: 1000, ..config() };
        let log = Log::Disk(Journal::open_on(Arc::new(disk.clone()), small).unwrap());
        disk.plan(Plan { free: Some(1100), ..Plan::default() });
        let low = log.append(&numbers(0..1)).await;
        assert_eq!(low, Err(AppendError::Full(FullReason::LowDisk)));
        disk.plan(Plan::default());
        let mut stored = 0;
        let full = loop {
            match log.append(&numbers(stored..stored + 1)).await {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(full, AppendError::Full(FullReason::SizeLimit));
        assert!(log.status().bytes <= 2000 && stored > 2);
        let mut huge = envelope(0);
        huge.bytes = vec![b' '; MAX_APPEND_BYTES].into();
        assert!(matches!(log.append(&[huge]).await, Err(AppendError::TooLarge { .. })));
        close(log).await;
    });
}

#[test]
fn what_waits_is_bounded() {
    let disk = SimDisk::default();
    run(async {
        let slow = JournalConfig { queue_bytes: 1000, group_wait_micros: 200_000, ..config() };
        let log = Log::Disk(Journal::open_on(Arc::new(disk.clone()), slow).unwrap());
        let appends = (0..50).map(|number| {
            let log = log.clone();
            tokio::spawn(async move { log.append(&[envelope(number)]).await })
        });
        let appends: Vec<_> = appends.collect();
        let (mut stored, mut refused) = (0, 0);
        for append in appends {
            match append.await.unwrap() {
                Ok(_) => stored += 1,
                Err(AppendError::Backpressure) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(stored > 3 && refused > 3, "{stored} {refused}");
        assert_eq!(read_all(&log, 0).await.len(), stored);
        log.append(&numbers(100..101)).await.unwrap();
        close(log).await;
    });
}

#[test]
fn a_segment_that_cannot_be_made_fails_only_the_append() {
    let disk = SimDisk::default();
    run(async {
        let log = open(&disk);
        let mut next = 0;
        for _ in 0..3 {
            disk.plan(Plan { no_handles: true, ..Plan::default() });
            // as many as fit into the segment that is there
            let refused = loop {
                match log.append(&numbers(next..next + 1)).await {
                    Ok(_) => next += 1,
                    Err(error) => break error,
                }
            };
            assert!(matches!(refused, AppendError::Failed(_)), "{refused}");
            assert_eq!(log.status().state, LogState::Open);
            disk.plan(Plan::default());
            log.append(&numbers(next..next + 1)).await.unwrap();
            next += 1;
        }
        assert_eq!(read_all(&log, 0).await.len() as u64, next);
        close(log).await;
    });
    assert_verifies(&disk);
}

#[test]
fn a_reader_that_is_not_waited_for_comes_to_an_end_on_a_slow_disk() {
    use std::time::Duration;
    let disk = SimDisk::default();
    run(async {
        let log = open(&disk);
        log.append(&numbers(0..3)).await.unwrap();
        disk.plan(Plan { read_delay: Some(Duration::from_millis(20)), ..Plan::default() });
        let mut reader = log.reader("test", &position(0)).unwrap();
        let mut given_up = 0;
        let batch = loop {
            match tokio::time::timeout(Duration::from_millis(5), reader.next(10, 1000)).await {
                Ok(batch) => break batch.unwrap(),
                Err(_) => given_up += 1,
            }
            assert!(given_up < 200, "it is begun anew each time");
        };
        assert!(given_up > 1 && batch.records.len() == 3);
        assert_eq!(reader.positions(), position(3));
        close(log).await;
    });
}
