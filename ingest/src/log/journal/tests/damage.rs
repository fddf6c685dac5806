//! Bits that flip, files that are gone.

use std::ops::Range;

use proptest::prelude::*;

use super::segment::{Depth, Step};
use super::*;

/// A frame of a journal that is whole.
#[derive(Clone, Debug)]
struct Known {
    segment: String,
    bytes: Range<u64>,
    records: Range<u64>,
}

/// A journal with several segments of several frames.
fn journal() -> (SimDisk, Vec<Known>) {
    let disk = SimDisk::default();
    run(async {
        let log = open(&disk);
        let mut next = 0;
        for count in [2, 1, 4, 1, 1, 3, 2, 2, 1, 5, 1, 1] {
            log.append(&numbers(next..next + count)).await.unwrap();
            next += count;
        }
        close(log).await;
    });
    let frames = frames(&disk);
    let segments: std::collections::BTreeSet<_> = frames.iter().map(|frame| &frame.segment).collect();
    assert!(segments.len() > 2 && frames.len() == 12);
    assert!(frames.iter().filter(|frame| frame.segment == frames[11].segment).count() > 1);
    (disk, frames)
}

fn frames(disk: &SimDisk) -> Vec<Known> {
    let mut frames = Vec::new();
    for segment in disk.names().into_iter().filter(|name| name.ends_with(".wbj")) {
        let len = disk.content(&segment).unwrap().len() as u64;
        let first = segment::parse_name(&segment).unwrap();
        let mut walk = segment::Walk::new(disk.open(&segment).unwrap(), len, None, first);
        while let Step::Frame { at, header, .. } = walk.step(|_| Depth::Body).unwrap() {
            let bytes = at..at + header.frame_len();
            frames.push(Known { segment: segment.clone(), bytes, records: header.first..header.end() });
        }
    }
    frames
}

/// Reads all that can be read, and what is reported.
fn read_damaged(disk: &SimDisk) -> (Vec<u64>, Vec<CorruptionReport>) {
    run(async {
        let log = open(disk);
        let records = read_all(&log, 0).await;
        // a second reader finds the same damage, which is not reported again
        assert_eq!(read_all(&log, 0).await, records);
        let reports = log.status().corruptions;
        close(log).await;
        (records.iter().map(|record| record.position.offset).collect(), reports)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn flipped_bits_cost_only_the_frames_they_are_in(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1u8..), 1..4),
        headers in any::<bool>(),
    ) {
        let (mut disk, frames) = journal();
        let mut hit = vec![false; frames.len()];
        for (frame, byte, mask) in flips {
            let index = frame.index(frames.len());
            // flipping the same bits twice would restore them
            if !std::mem::replace(&mut hit[index], true) {
                let Known { segment, bytes, .. } = &frames[index];
                let start = bytes.start as usize + if headers { 0 } else { frame::HEADER_BYTES };
                let at = start + byte.index(bytes.end as usize - start);
                disk = disk.flipped(segment, at, mask);
            }
        }
        let (read, reports) = read_damaged(&disk);
        let good = frames.iter().zip(&hit).filter(|(_, hit)| !**hit);
        let expect: Vec<u64> = good.flat_map(|(frame, _)| frame.records.clone()).collect();
        prop_assert_eq!(&read, &expect);
        let mut lost: Vec<u64> = reports.iter().filter(|report| !report.torn_tail)
            .flat_map(|report| report.records.clone()).collect();
        lost.sort_unstable();
        let lost_of = |frames: &[Known], hit: &[bool]| -> Vec<u64> {
            let lost = frames.iter().zip(hit).filter(|(_, hit)| **hit);
            lost.flat_map(|(frame, _)| frame.records.clone()).collect()
        };
        let torn = reports.iter().filter(|report| report.torn_tail).count();
        if headers {
            // without their headers it is not known what the last frames held
            let newest = hit.iter().rposition(|hit| !hit).unwrap();
            prop_assert!(lost.starts_with(&lost_of(&frames[..newest], &hit[..newest])));
            prop_assert!(lost_of(&frames, &hit).starts_with(&lost) && torn <= 1);
        } else {
            // only the very last frame can be incomplete, and not if the one before it is damaged as well
            let [.., before, last] = &frames[..] else { unreachable!() };
            let alone = hit[11] && !(hit[10] && before.segment == last.segment);
            let whole = if alone { 11 } else { 12 };
            prop_assert_eq!(lost, lost_of(&frames[..whole], &hit[..whole]));
            prop_assert_eq!(torn, usize::from(alone));
        }
        for report in reports {
            let copy = disk.content(&report.copy.unwrap()).unwrap();
            prop_assert_eq!(copy.len() as u64, report.bytes.end - report.bytes.start);
        }
    }

    #[test]
    fn no_bytes_make_recovery_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..600, head in any::<bool>()
    ) {
        let (disk, frames) = journal();
        let mut segment = disk.content(&frames[0].segment).unwrap();
        let at = at.min(segment.len());
        segment.splice(at..at, bytes);
        let (records, damaged) = recover_bytes(&segment.split_off(if head { 0 } else { at }).into());
        prop_assert!(records <= 20 && damaged <= 12);
    }
}

#[test]
fn verification_names_the_first_broken_place() {
    let (disk, frames) = journal();
    assert_verifies(&disk);
    let report = verified(&disk);
    assert_eq!((report.frames, report.records, report.first, report.end), (12, 24, 0, 24));
    for frame in &frames[..11] {
        for at in [frame.bytes.start, frame.bytes.start + 60, frame.bytes.end - 1] {
            let broken = verified(&disk.flipped(&frame.segment, at as usize, 4)).broken.unwrap();
            assert_eq!(broken.file, Path::new("/sim").join(&frame.segment));
            assert_eq!((broken.byte, broken.record), (frame.bytes.start, frame.records.start));
        }
    }
    let last = &frames[11];
    let torn = verified(&disk.flipped(&last.segment, last.bytes.start as usize + 30, 4));
    assert_eq!((torn.broken, torn.unfinished_bytes), (None, last.bytes.end - last.bytes.start));
}

#[test]
fn a_removed_segment_is_noticed() {
    let (disk, frames) = journal();
    let middle = &frames.iter().find(|frame| frame.records.start > 3 && frame.bytes.start == 0).unwrap();
    disk.remove(&middle.segment).unwrap();
    let gone: Vec<u64> = frames
        .iter()
        .filter(|frame| frame.segment == middle.segment)
        .flat_map(|frame| frame.records.clone())
        .collect();
    let (read, reports) = read_damaged(&disk);
    assert!(read.iter().all(|offset| !gone.contains(offset)) && read.len() + gone.len() == 24);
    assert_eq!(reports.len(), 1);
    assert!(reports[0].records.clone().eq(gone.iter().copied()) && reports[0].bytes.is_empty());
    let broken = verified(&disk).broken.unwrap();
    assert_eq!((broken.record, broken.reason), (gone[0], "records are missing before this frame"));
}

#[test]
fn damage_to_more_than_the_last_frame_is_no_torn_tail_and_its_numbers_are_not_used_again() {
    let (disk, frames) = journal();
    let flip = |disk: &SimDisk, frame: &Known| disk.flipped(&frame.segment, frame.bytes.end as usize - 1, 1);
    assert!(frames[10].segment == frames[11].segment);
    let damaged = flip(&flip(&disk, &frames[10]), &frames[11]);
    let more = flip(&damaged, &frames[9]);
    let (_, reports) = read_damaged(&more);
    let lost: u64 = reports.iter().map(|report| report.records.end - report.records.start).sum();
    assert_eq!(lost, 7, "each is reported once");
    run(async {
        let log = open(&damaged);
        let reports = log.status().corruptions;
        assert_eq!((reports.len(), reports[0].torn_tail, reports[0].records.clone()), (1, false, 22..24));
        assert_eq!(log.append(&numbers(24..25)).await.unwrap()[0].offset, 24);
        close(log).await;
    });
}

/// A journal with three frames of one record each.
fn three_frames() -> (SimDisk, Vec<Known>) {
    let disk = SimDisk::default();
    run(async {
        let log = open(&disk);
        for number in 0..3 {
            log.append(&[envelope(number)]).await.unwrap();
        }
        close(log).await;
    });
    let frames = frames(&disk);
    assert_eq!(frames.len(), 3);
    (disk, frames)
}

#[test]
fn a_frame_within_an_event_does_not_pass_for_one() {
    let ((disk, frames), (other, others)) = (three_frames(), three_frames());
    let name = &frames[1].segment;
    let cut = |disk: &SimDisk, bytes: Range<u64>| {
        disk.content(name).unwrap()[bytes.start as usize..bytes.end as usize].to_vec()
    };
    // in the place of the second frame stands one that lost its header and holds a frame of a journal that
    // an attacker has: all its checksums are right
    let foreign = [b"no header".to_vec(), cut(&other, others[1].bytes.clone())].concat();
    let parts = [cut(&disk, frames[0].bytes.clone()), foreign, cut(&disk, frames[2].bytes.clone())];
    super::disk::replace(&disk, name, &parts.concat()).unwrap();
    let (read, reports) = read_damaged(&disk);
    assert_eq!(read, [0, 2]);
    assert_eq!((reports.len(), reports[0].records.clone()), (1, 1..2));
}

#[test]
fn a_damaged_file_of_the_journal_itself_is_made_again() {
    let (disk, _) = journal();
    let whole = disk.content("journal").unwrap();
    for damaged in [disk.flipped("journal", 0, 1), {
        disk.remove("journal").unwrap();
        disk.reboot(0)
    }] {
        assert_eq!(read_damaged(&damaged).0.len(), 24);
        assert_eq!(damaged.content("journal").unwrap(), whole);
    }
    let newer = SimDisk::default();
    super::disk::replace(&newer, "journal", br#"{"format":2,"marker":"00"}"#).unwrap();
    assert!(matches!(Journal::open_on(Arc::new(newer), config()), Err(OpenError::Format(2))));
}
