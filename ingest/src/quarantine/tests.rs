use std::os::unix::fs::PermissionsExt;

use super::*;

fn entry(bytes: &[u8]) -> QuarantineEntry {
    QuarantineEntry {
        time: "2026-01-31T08:15:00Z".parse().unwrap(),
        source: "audit".into(),
        cluster: "test".into(),
        peer: Some("10.0.0.1".parse().unwrap()),
        place: "event 3 at byte 1200".into(),
        reason: "not JSON".into(),
        repaired: false,
        bytes: Bytes::copy_from_slice(bytes),
    }
}

fn open(directory: &Path, max_bytes: u64) -> Quarantine {
    Quarantine::open(directory, QuarantineConfig { max_bytes, entry_bytes: 20, known_bytes: 1 << 20 })
        .unwrap()
}

/// The text of the newest entries, the newest first.
fn texts(quarantine: &Quarantine, limit: usize) -> Vec<String> {
    let listed = quarantine.list(limit, None).unwrap();
    let bytes = listed.iter().map(|entry| quarantine.get(entry.key).unwrap().unwrap().1);
    bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).collect()
}

#[test]
fn the_same_bytes_are_kept_once_and_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let quarantine = open(directory.path(), 1 << 20);
    let other = QuarantineEntry { cluster: "other".into(), ..entry(b"{") };
    assert_eq!(quarantine.append(&[entry(b"{"), entry(b"{"), entry(b"[")]).unwrap(), 2);
    drop(quarantine);
    let quarantine = open(directory.path(), 1 << 20);
    for _ in 0..5 {
        assert_eq!(quarantine.append(&[entry(b"{")]).unwrap(), 0);
    }
    assert_eq!(quarantine.append(&[other]).unwrap(), 1);
    let listed = quarantine.list(2, None).unwrap();
    assert_eq!((listed[0].cluster.as_str(), texts(&quarantine, 2)), ("other", vec!["{".into(), "[".into()]));
    assert_eq!((listed[1].place.as_str(), listed[1].total_bytes), ("event 3 at byte 1200", 1));
    let count = |limit| quarantine.list(limit, None).unwrap().len();
    assert_eq!((count(0), count(10)), (0, 3));
}

#[test]
fn only_the_newest_are_recognised_after_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let numbered: Vec<_> = (10..90).map(|number| entry(format!("{number}").as_bytes())).collect();
    let quarantine = open(directory.path(), 24_000);
    for entry in numbered.chunks(1) {
        assert_eq!(quarantine.append(entry).unwrap(), 1);
    }
    drop(quarantine);
    let len = |name: &str| std::fs::metadata(directory.path().join(name)).unwrap().len();
    let (newer, line) = (len("quarantine.jsonl"), len("quarantine.jsonl") + len("quarantine.old.jsonl"));
    let line = line / 80;
    for (known_bytes, known) in [(line * 5 / 2, 2), (newer + line * 5 / 2, newer / line + 2), (1 << 20, 80)] {
        let config = QuarantineConfig { max_bytes: 24_000, entry_bytes: 20, known_bytes };
        let quarantine = Quarantine::open(directory.path(), config).unwrap();
        let files = quarantine.files.lock().unwrap();
        let is_known: Vec<bool> = numbered.iter().map(|entry| files.knows(key(entry))).collect();
        let expect: Vec<bool> = (0..80).map(|index| index >= 80 - known).collect();
        assert_eq!(is_known, expect);
    }
}

#[test]
fn what_is_listed_is_as_it_was_when_listing_began() {
    let directory = tempfile::tempdir().unwrap();
    let quarantine = open(directory.path(), 4000);
    let append = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            quarantine.append(&[entry(format!("{number}").as_bytes())]).unwrap();
        }
    };
    append(0..10);
    let listed = quarantine.list(5, None).unwrap();
    let snapshot = quarantine.snapshot().unwrap();
    append(10..17);
    assert_eq!(snapshot.newest(5, None).unwrap(), listed);
    assert_ne!(quarantine.list(5, None).unwrap(), listed);
}

#[test]
fn of_one_body_a_bounded_number_is_kept_singly() {
    let directory = tempfile::tempdir().unwrap();
    let quarantine = open(directory.path(), 10 << 20);
    let entries: Vec<_> = (0..100_000).map(|number| entry(format!("{number}").as_bytes())).collect();
    assert_eq!(quarantine.append(&entries[..1001]).unwrap(), 1001);
    assert_eq!(quarantine.append(&entries).unwrap(), 1);
    let newest = quarantine.list(1, None).unwrap().remove(0);
    assert_eq!(texts(&quarantine, 1), ["1000\n1001\n1002\n1003\n"]);
    assert_eq!(newest.reason, "99000 of one body, the first of them: not JSON");
    assert_eq!(quarantine.append(&entries).unwrap(), 0);
}

#[test]
fn entries_are_cut_and_bytes_that_are_no_text_are_encoded() {
    let directory = tempfile::tempdir().unwrap();
    let quarantine = open(directory.path(), 1 << 20);
    let check = |bytes: &[u8], kept: &[u8]| {
        assert_eq!(quarantine.append(&[entry(bytes)]).unwrap(), 1);
        let newest = quarantine.list(1, None).unwrap().remove(0);
        assert_eq!(newest.total_bytes, bytes.len());
        assert_eq!(quarantine.get(newest.key).unwrap(), Some((newest, Bytes::copy_from_slice(kept))));
    };
    check(b"a\n\"b\"", b"a\n\"b\"");
    check(&[b'x'; 25], &[b'x'; 20]);
    check("12345678901234567890é".as_bytes(), b"12345678901234567890");
    check("1234567890123456789é0".as_bytes(), b"1234567890123456789");
    check(&[0xFF, 0xFE], &[0xFF, 0xFE]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory.path().join("quarantine.jsonl")), 0o600);
}

#[test]
fn the_oldest_entries_are_rotated_out() {
    let directory = tempfile::tempdir().unwrap();
    let quarantine = open(directory.path(), 4000);
    for number in 0..100 {
        assert_eq!(quarantine.append(&[entry(format!("{number}").as_bytes())]).unwrap(), 1);
        let bytes: u64 =
            std::fs::read_dir(directory.path()).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes <= 4000);
    }
    let listed = texts(&quarantine, 100);
    assert!(listed.len() > 5 && listed.len() < 20, "{}", listed.len());
    assert_eq!(listed[0], "99");
    assert_eq!(quarantine.append(&[entry(b"99"), entry(b"0")]).unwrap(), 1, "what is gone can come again");
}

#[test]
fn a_line_cut_short_by_a_crash_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path(), 1 << 20).append(&[entry(b"1"), entry(b"2")]).unwrap();
    let path = directory.path().join("quarantine.jsonl");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 3).unwrap();
    let quarantine = open(directory.path(), 1 << 20);
    assert_eq!(quarantine.append(&[entry(b"1"), entry(b"2"), entry(b"3")]).unwrap(), 2);
    assert_eq!(texts(&quarantine, 9), ["3", "2", "1"]);
}

#[test]
fn pages_follow_one_another() {
    let directory = tempfile::tempdir().unwrap();
    let quarantine = open(directory.path(), 4000);
    for number in 0..12 {
        quarantine.append(&[entry(format!("{number}").as_bytes())]).unwrap();
    }
    let all = quarantine.list(100, None).unwrap();
    let mut pages = Vec::new();
    while let page = quarantine.list(5, pages.last().map(|entry: &QuarantinedEntry| entry.key)).unwrap()
        && !page.is_empty()
    {
        pages.extend(page);
    }
    assert_eq!(pages, all);
}

#[test]
fn what_is_done_is_marked_and_kept_again_when_it_comes_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut quarantine = open(directory.path(), 1 << 20);
    quarantine.append(&[entry(b"1"), entry(b"2")]).unwrap();
    let key = quarantine.list(9, None).unwrap()[1].key;
    let now: Timestamp = "2026-02-01T00:00:00Z".parse().unwrap();
    quarantine.mark_done(key, now).unwrap();
    for _ in 0..2 {
        let done: Vec<_> = quarantine.list(9, None).unwrap().iter().map(|entry| entry.done_at).collect();
        assert_eq!(done, [None, Some(now)]);
        assert_eq!(quarantine.get(key).unwrap().unwrap().0.done_at, Some(now));
        quarantine = open(directory.path(), 1 << 20);
    }
    assert_eq!(quarantine.append(&[entry(b"1"), entry(b"2")]).unwrap(), 1);
    assert_eq!(quarantine.list(1, None).unwrap()[0].done_at, None);
    assert_eq!(quarantine.get(key).unwrap().unwrap().0.done_at, None);
    assert_eq!(open(directory.path(), 1 << 20).append(&[entry(b"1")]).unwrap(), 0);
}
