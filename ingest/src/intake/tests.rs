use std::time::Duration;

use super::*;
use crate::log::{Journal, JournalConfig, MemoryLog};
use crate::testing::envelope;

const NONE: Receipt = Receipt { stored: 0, duplicates: 0 };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000).plus_micros(seconds * 1_000_000)
}

/// An event that happened and arrived at a time.
fn event(number: u64, seconds: i64) -> Envelope {
    Envelope { received_at: at(seconds).plus_micros(1), event_time: at(seconds), ..envelope(number) }
}

fn intake(log: Log, window_seconds: u64, window_ids: usize) -> Intake {
    Intake::open(log, &IntakeConfig { window_seconds, window_ids }, at(0)).unwrap()
}

fn memory() -> Log {
    Log::Memory(MemoryLog::new(1 << 20))
}

/// No lookup is expected.
async fn no_lookup(ids: Vec<OlderEvent>) -> Result<Vec<bool>, LookupError> {
    panic!("{} events were looked up", ids.len())
}

async fn append(intake: &Intake, envelopes: Vec<Envelope>) -> (usize, usize) {
    let receipt = intake.append(envelopes, no_lookup).await.unwrap();
    (receipt.stored, receipt.duplicates)
}

fn records(log: &Log) -> u64 {
    log.lag(&Default::default())
}

#[tokio::test]
async fn each_event_is_stored_once() {
    let intake = intake(memory(), 600, 1000);
    assert_eq!(intake.append(Vec::new(), no_lookup).await.unwrap(), NONE);
    assert_eq!(append(&intake, vec![event(1, 0), event(2, 0), event(1, 0)]).await, (2, 1));
    assert_eq!(append(&intake, vec![event(2, 1), event(3, 1)]).await, (1, 1));
    assert_eq!(append(&intake, vec![event(1, 2)]).await, (0, 1));
    assert_eq!(records(intake.log()), 3);
}

#[tokio::test]
async fn what_the_window_may_have_forgotten_is_looked_up() {
    let intake = intake(memory(), 600, 1000);
    append(&intake, vec![event(1, 0)]).await;
    append(&intake, vec![event(2, 2000)]).await;
    // event 1 is forgotten now; event 9 is as old but was never there; event 3 is too new to be forgotten
    let lookup = async |older: Vec<OlderEvent>| {
        assert_eq!(older, [1, 9].map(|number| OlderEvent { id: envelope(number).id, time: Some(at(0)) }));
        Ok(vec![true, false])
    };
    let again = vec![event(1, 0), event(9, 0), event(3, 2001)]
        .into_iter()
        .map(|envelope| Envelope { received_at: at(2002), ..envelope });
    let receipt = intake.append(again.collect(), lookup).await.unwrap();
    assert_eq!(receipt, Receipt { stored: 2, duplicates: 1 });
    assert_eq!(append(&intake, vec![event(1, 0), event(9, 0)]).await, (0, 2));
    assert_eq!(records(intake.log()), 4);
}

#[tokio::test]
async fn a_failed_lookup_appends_nothing_and_holds_nothing() {
    let intake = intake(memory(), 600, 1000);
    append(&intake, vec![event(1, 0)]).await;
    append(&intake, vec![event(2, 2000)]).await;
    let old = vec![Envelope { received_at: at(2001), ..event(5, 0) }];
    let failing = async |_| Err(LookupError::Failed("the index is away".into()));
    assert!(matches!(intake.append(old.clone(), failing).await, Err(AppendError::Failed(_))));
    let behind = async |_| Err(LookupError::Behind);
    assert!(matches!(intake.append(old.clone(), behind).await, Err(AppendError::Backpressure)));
    assert_eq!(records(intake.log()), 2);
    let receipt = intake.append(old, async |ids: Vec<OlderEvent>| Ok(vec![false; ids.len()])).await.unwrap();
    assert_eq!(receipt.stored, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_how_far_the_log_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let first = intake(slow_journal(directory.path(), 1 << 30), 600, 1000);
    let ends = |intake: &Intake| (intake.forgotten_end().next(0), intake.log().end().next(0));
    append(&first, vec![event(1, 0), event(2, 0)]).await;
    append(&first, vec![event(3, 200)]).await;
    assert_eq!(ends(&first), (0, 3));
    append(&first, vec![event(4, 700)]).await;
    assert_eq!(ends(&first), (2, 4), "the second one is remembered");
    first.log().close().await;
    drop(first);
    let config = IntakeConfig { window_seconds: 600, window_ids: 1000 };
    let open = |now| Intake::open(slow_journal(directory.path(), 1 << 30), &config, at(now)).unwrap();
    let second = open(0);
    assert_eq!(ends(&second), (0, 4));
    second.log().close().await;
    drop(second);
    assert_eq!(ends(&open(700)), (4, 4));
}

#[tokio::test]
async fn a_copy_of_events_that_are_found_to_be_stored_succeeds_as_well() {
    let intake = intake(memory(), 600, 1000);
    append(&intake, vec![event(1, 0)]).await;
    append(&intake, vec![event(2, 2000)]).await;
    let old = || vec![Envelope { received_at: at(2001), ..event(1, 0) }];
    let (answer, found) = tokio::sync::oneshot::channel();
    let first = intake.append(old(), async |_| Ok(vec![found.await.unwrap()]));
    let second = async {
        let copy = intake.append(old(), no_lookup);
        answer.send(true).unwrap();
        copy.await
    };
    let (first, second) = tokio::join!(biased; first, second);
    let expect = Receipt { stored: 0, duplicates: 1 };
    assert_eq!((first.unwrap(), second.unwrap()), (expect, expect));
}

#[tokio::test]
async fn events_without_a_time_of_their_own_are_always_looked_up() {
    let intake = intake(memory(), 600, 1000);
    append(&intake, vec![event(1, 0)]).await;
    append(&intake, vec![event(2, 2000)]).await;
    let now = at(2001);
    let silent = Envelope { received_at: now, event_time: now, ..event(3, 0) };
    let future = Envelope { event_time: now.plus_micros(300_000_000), received_at: now, ..event(4, 0) };
    let lookup = async |older: Vec<OlderEvent>| {
        assert!(older.iter().all(|event| event.time.is_none()), "{older:?}");
        Ok(vec![true, true])
    };
    let receipt = intake.append(vec![silent, future], lookup).await.unwrap();
    assert_eq!(receipt, Receipt { stored: 0, duplicates: 2 });
}

#[tokio::test]
async fn the_window_is_bounded_by_count() {
    let intake = intake(memory(), 600, 80);
    for number in 0..200 {
        append(&intake, vec![event(number, number as i64 / 10)]).await;
    }
    assert!(lock(&intake.window).len() <= 80);
    let newest = vec![event(199, 19)];
    assert_eq!(append(&intake, newest).await, (0, 1));
    let oldest =
        intake.append(vec![event(0, 0)], async |ids: Vec<OlderEvent>| Ok(vec![true; ids.len()])).await;
    assert_eq!(oldest.unwrap(), Receipt { stored: 0, duplicates: 1 });
}

/// A journal whose appends take a while, so that others meet them in flight.
fn slow_journal(directory: &std::path::Path, max_bytes: u64) -> Log {
    let config =
        JournalConfig { group_wait_micros: 100_000, max_bytes, keep_free_bytes: 0, ..Default::default() };
    Log::Disk(Journal::open(directory, config).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_in_flight_waits_for_the_sync_and_shares_the_outcome() {
    for (max_bytes, stored) in [(1 << 30, true), (0, false)] {
        let directory = tempfile::tempdir().unwrap();
        let intake = intake(slow_journal(directory.path(), max_bytes), 600, 1000);
        let copies = (0..8).map(|copy| {
            let intake = intake.clone();
            tokio::spawn(
                async move { intake.append(vec![event(1, 0), event(100 + copy, 0)], no_lookup).await },
            )
        });
        let copies: Vec<_> = copies.collect();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(copies.iter().all(|copy| !copy.is_finished()), "nothing is answered before it is durable");
        let mut kept = 0;
        for copy in copies {
            match copy.await.unwrap() {
                Ok(receipt) => kept += receipt.stored,
                Err(error) => assert!(!stored && matches!(error, AppendError::Full(_))),
            }
        }
        assert_eq!(kept as u64, records(intake.log()));
        assert_eq!(kept, if stored { 9 } else { 0 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_given_up_leaves_its_events_known() {
    let directory = tempfile::tempdir().unwrap();
    let intake = intake(slow_journal(directory.path(), 1 << 30), 600, 1000);
    let given_up = intake.append(vec![event(1, 0)], no_lookup);
    assert!(tokio::time::timeout(Duration::from_millis(20), given_up).await.is_err());
    assert_eq!(append(&intake, vec![event(1, 1)]).await, (0, 1));
    assert_eq!(records(intake.log()), 1);
    // one that is given up while it looks something up has appended nothing
    append(&intake, vec![event(2, 2000)]).await;
    let old = || vec![Envelope { received_at: at(2001), ..event(3, 0) }];
    let stuck = intake.append(old(), |_| std::future::pending());
    assert!(tokio::time::timeout(Duration::from_millis(20), stuck).await.is_err());
    let receipt = intake.append(old(), async |_| Ok(vec![false])).await.unwrap();
    assert_eq!(receipt.stored, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_window_is_rebuilt_from_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let first = intake(slow_journal(directory.path(), 1 << 30), 600, 1000);
    append(&first, vec![event(1, -1000), event(2, -100), event(3, 0)]).await;
    first.log().close().await;
    drop(first);
    let second = intake(slow_journal(directory.path(), 1 << 30), 600, 1000);
    let recent = vec![event(2, -100), event(3, 0)];
    assert_eq!(append(&second, recent).await, (0, 2));
    let older = vec![Envelope { received_at: at(1), ..event(1, -1000) }];
    let receipt = second.append(older, async |_| Ok(vec![true])).await.unwrap();
    assert_eq!(receipt, Receipt { stored: 0, duplicates: 1 });
}
