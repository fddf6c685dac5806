//! What is kept, for how long, and what outlives it.

use super::*;
use crate::log::MAX_READERS;

const LONG_AFTER: i64 = 3_600_000_000;

#[test]
fn a_segment_goes_only_when_it_is_old_and_all_readers_are_past_it() {
    let disk = SimDisk::default();
    run(async {
        let log = open(&disk);
        for number in 0..12 {
            log.append(&[envelope(number)]).await.unwrap();
        }
        let now = envelope(12).received_at;
        let oldest = || log.status().oldest.next(0);
        log.retain(now.plus_micros(LONG_AFTER)).await.unwrap();
        assert_eq!(oldest(), 0, "nobody has said that anything is no longer needed");
        log.checkpoint("detect", &log.end()).await.unwrap();
        let _reader = log.reader("index", &position(2)).unwrap();
        log.retain(now.plus_micros(LONG_AFTER)).await.unwrap();
        assert!(oldest() <= 2);
        log.checkpoint("index", &position(9)).await.unwrap();
        log.retain(now).await.unwrap();
        assert!(oldest() <= 2, "it is not old enough");
        log.retain(now.plus_micros(LONG_AFTER)).await.unwrap();
        let kept = oldest();
        assert!(kept > 2 && kept <= 9, "{kept}");
        assert_eq!(read_all(&log, kept).await.len() as u64, 12 - kept);
        assert_eq!(read_all(&log, 0).await.len() as u64, 12 - kept, "reading begins at what is there");
        log.checkpoint("index", &log.end()).await.unwrap();
        log.checkpoint("test", &log.end()).await.unwrap();
        log.retain(now.plus_micros(LONG_AFTER)).await.unwrap();
        assert!(oldest() < 12, "the newest segment stays");
        assert_eq!(log.status().corruptions, []);
        close(log).await;
    });
    assert_verifies(&disk);
    let report = verified(&disk);
    assert!(report.first > 0 && report.end == 12);
    let roots = retention::read_roots(&disk, retention::ROOTS).unwrap();
    assert!(!roots.records.is_empty() && roots.len == disk.content(retention::ROOTS).unwrap().len() as u64);
    let broken = verified(&disk.flipped(retention::ROOTS, 60, 1)).broken;
    assert!(broken.is_some(), "history that does not follow the roots is noticed");
}

#[test]
fn looking_for_old_segments_reads_each_once_and_deletes_a_few_at_a_time() {
    let disk = SimDisk::default();
    run(async {
        let small = || JournalConfig { segment_bytes: 1, ..config() };
        let log = Log::Disk(Journal::open_on(Arc::new(disk.clone()), small()).unwrap());
        for number in 0..40 {
            log.append(&[envelope(number)]).await.unwrap();
        }
        log.checkpoint("a", &log.end()).await.unwrap();
        let oldest = segment::name(0);
        let now = envelope(0).received_at;
        log.retain(now).await.unwrap();
        assert_eq!(disk.bytes_read(&oldest), 0, "what was written by this process is known");
        close(log).await;
        let disk = disk.reboot(0);
        let log = Log::Disk(Journal::open_on(Arc::new(disk.clone()), small()).unwrap());
        log.retain(now).await.unwrap();
        let read = disk.bytes_read(&oldest);
        log.retain(now).await.unwrap();
        assert!(read > 0 && disk.bytes_read(&oldest) == read);
        for kept in [16, 32, 39, 39] {
            log.retain(now.plus_micros(LONG_AFTER)).await.unwrap();
            assert_eq!(log.status().oldest.next(0), kept);
        }
        close(log.clone()).await;
        assert!(matches!(log.retain(now).await, Err(LogError::Closed)));
    });
}

#[test]
fn roots_are_bounded() {
    let disk = SimDisk::default();
    run(async {
        let small = JournalConfig { roots_bytes: 500, segment_bytes: 1, ..config() };
        let log = Log::Disk(Journal::open_on(Arc::new(disk.clone()), small).unwrap());
        for number in 0..40 {
            log.append(&[envelope(number)]).await.unwrap();
            log.checkpoint("a", &log.end()).await.unwrap();
            log.retain(envelope(number).received_at.plus_micros(LONG_AFTER)).await.unwrap();
        }
        close(log).await;
    });
    let len = |name: &str| disk.content(name).unwrap().len();
    assert!(len("roots") < 700 && len("roots.old") < 700);
    assert_verifies(&disk);
}

#[test]
fn offsets_that_a_reader_has_seen_are_not_used_again() {
    let disk = SimDisk::default();
    run(async {
        let log = open(&disk);
        log.append(&numbers(0..5)).await.unwrap();
        // the index keeps its own position and may know more than the log, after a disk was replaced
        let mut reader = log.reader("index", &position(8)).unwrap();
        let positions = log.append(&numbers(5..6)).await.unwrap();
        assert_eq!(positions[0].offset, 8);
        assert_eq!(reader.next(10, 1000).await.unwrap().records[0].envelope, envelope(5));
        log.checkpoint("index", &position(20)).await.unwrap();
        close(log).await;
        let log = open(&disk);
        let lost = log.status().corruptions;
        assert!(lost.len() == 1 && lost[0].records == (9..20) && !lost[0].torn_tail, "{lost:?}");
        assert_eq!(log.append(&numbers(6..7)).await.unwrap()[0].offset, 20);
        assert_eq!(read_all(&log, 0).await.len(), 7);
        close(log).await;
    });
}

#[test]
fn a_lost_end_that_was_read_is_told_beside_the_torn_frame() {
    let disk = SimDisk::default();
    run(async {
        let log = open(&disk);
        log.append(&numbers(0..5)).await.unwrap();
        log.append(&numbers(5..9)).await.unwrap();
        log.checkpoint("index", &position(9)).await.unwrap();
        close(log).await;
        let name = segment::name(0);
        let len = disk.content(&name).unwrap().len();
        let log = open(&disk.flipped(&name, len - 10, 1));
        let told = log.status().corruptions;
        assert_eq!(told.iter().map(|report| report.torn_tail).collect::<Vec<_>>(), [true, false], "{told:?}");
        assert_eq!(told[1].records, 5..9);
        close(log).await;
    });
}

#[test]
fn readers_are_bounded_and_a_damaged_checkpoint_holds_everything() {
    let disk = SimDisk::default();
    run(async {
        let log = open(&disk);
        log.append(&numbers(0..5)).await.unwrap();
        for number in 0..MAX_READERS {
            log.checkpoint(&format!("r{number}"), &log.end()).await.unwrap();
        }
        assert!(matches!(log.reader("more", &position(0)), Err(LogError::TooManyReaders)));
        assert!(matches!(log.checkpoint("more", &position(0)).await, Err(LogError::TooManyReaders)));
        close(log).await;
        let damaged = disk.flipped("reader-r3", 2, 1);
        let log = open(&damaged);
        assert_eq!(log.checkpointed("r2"), position(5));
        assert_eq!(log.checkpointed("r3"), Positions::default());
        close(log).await;
    });
}

#[test]
fn opening_reads_only_the_newest_segment() {
    let disk = SimDisk::default();
    run(async {
        let log = open(&disk);
        for number in 0..60 {
            log.append(&[envelope(number)]).await.unwrap();
        }
        close(log).await;
        let disk = disk.reboot(0);
        close(open(&disk)).await;
        let segments: Vec<String> = disk.names().into_iter().filter(|name| name.ends_with(".wbj")).collect();
        let read: Vec<usize> = segments.iter().map(|name| disk.bytes_read(name)).collect();
        assert!(read.len() > 5 && read[..read.len() - 1].iter().all(|bytes| *bytes == 0), "{read:?}");
        assert!(read[read.len() - 1] > 0);
    });
}

#[test]
fn on_a_real_disk_it_opens_reads_and_verifies_and_only_one_process_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    run(async {
        let log = Log::Disk(Journal::open(&path, config()).unwrap());
        assert!(matches!(Journal::open(&path, config()), Err(OpenError::Directory { .. })));
        for number in 0..30 {
            log.append(&[envelope(number)]).await.unwrap();
        }
        log.checkpoint("a", &position(25)).await.unwrap();
        log.retain(envelope(30).received_at.plus_micros(LONG_AFTER)).await.unwrap();
        assert_eq!(verify(&path).unwrap().broken, None);
        close(log.clone()).await;
        drop(log);
        let log = Log::Disk(Journal::open(&path, config()).unwrap());
        let oldest = log.status().oldest.next(0);
        assert!(oldest > 10);
        assert_eq!(read_all(&log, 0).await.len() as u64, 30 - oldest);
        close(log).await;
    });
    let report = verify(&path).unwrap();
    assert_eq!((report.end, report.broken), (30, None));
    assert!(verify(Path::new("/nonexistent")).is_err());
}

/// What a batch says it is packed as is the same records, wherever they come from.
#[test]
fn whole_frames_come_with_their_packed_form_and_parts_without() {
    run(async {
        for cache_bytes in [0, 1 << 20] {
            let disk = SimDisk::default();
            let config = JournalConfig { cache_bytes, ..config() };
            let log = Log::Disk(Journal::open_on(Arc::new(disk.clone()), config).unwrap());
            for range in [0..5, 5..12, 12..20] {
                log.append(&numbers(range)).await.unwrap();
            }
            let batches = async |from, max_events| {
                let mut reader = log.reader("test", &position(from)).unwrap();
                let mut sizes = Vec::new();
                while log.lag(&reader.positions()) > 0 {
                    let batch = reader.next(max_events, 1 << 20).await.unwrap();
                    let offset = batch.records[0].position.offset;
                    if let Some(packed) = &batch.packed {
                        let raw = zstd::bulk::decompress(&packed.payload, packed.raw_len).unwrap();
                        let count = u32::try_from(batch.records.len()).unwrap();
                        assert_eq!(frame::records(offset, count, &raw.into(), 0).unwrap(), batch.records);
                    }
                    sizes.push((batch.records.len(), batch.packed.is_some()));
                }
                sizes
            };
            assert_eq!(batches(0, 1000).await, [(5, true), (7, true), (8, true)]);
            assert_eq!(batches(2, 1000).await, [(3, false), (7, true), (8, true)]);
            assert_eq!(batches(5, 7).await, [(7, true), (7, false), (1, false)]);
            close(log).await;
        }
    });
}
