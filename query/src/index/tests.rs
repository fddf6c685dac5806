use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::testing::{all_events, packed, record, request, small, time};

const DAY_SECONDS: i64 = 86_400;

/// Fifty of these are worth keeping together.
fn event(n: u64) -> String {
    let padding = "x".repeat(3_000);
    format!(r#"{{"verb":"create","n":{n},"objectRef":{{"name":"pod-{n}"}},"padding":"{padding}"}}"#)
}

/// Records that arrive `step` seconds apart.
fn records(offsets: std::ops::Range<u64>, step: i64) -> Vec<Record> {
    offsets.map(|n| record(n, n as i64 * step, &event(n))).collect()
}

fn open(dir: &TempDir) -> Index {
    Index::open(small(), dir.path()).unwrap()
}

/// The events in the index are exactly the first `n`, each once.
fn check_holds(index: &Index, n: u64) {
    let mut events = all_events(&index.searcher());
    events.sort_unstable();
    let mut expect: Vec<String> = (0..n).map(event).collect();
    expect.sort_unstable();
    assert_eq!(events, expect);
    assert_eq!(index.stats().documents, n);
}

fn partitions(dir: &TempDir) -> BTreeSet<String> {
    let names = fs::read_dir(dir.path().join(partition::DIR)).unwrap();
    names.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn what_was_not_committed_is_read_from_the_log_again() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&dir);
    index.add(&records(0..10, 1)).unwrap();
    index.commit().unwrap();
    index.add(&records(10..20, 1)).unwrap();
    assert_eq!((index.positions().next(0), index.stats().uncommitted), (10, 10));
    drop(index);
    let mut index = open(&dir);
    assert_eq!(index.positions().next(0), 10);
    check_holds(&index, 10);
    index.add(&records(5..25, 1)).unwrap();
    index.commit().unwrap();
    check_holds(&index, 25);
    // And once more from the beginning: everything is known.
    index.add(&records(0..25, 1)).unwrap();
    index.commit().unwrap();
    check_holds(&index, 25);
}

/// Whoever waits until the index has read the log would wait for ever for records that are lost.
#[test]
fn records_that_the_log_lost_are_passed_over() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&dir);
    let next = |next| {
        let mut positions = Positions::default();
        positions.set_next(0, next);
        positions
    };
    index.add(&records(0..10, 1)).unwrap();
    assert!(!index.pass_over(&next(10)) && !index.pass_over(&Positions::default()));
    assert!(index.pass_over(&next(20)));
    assert_eq!(index.positions().next(0), 0, "nothing is committed");
    index.commit().unwrap();
    assert_eq!(index.positions().next(0), 20);
    assert!(index.pass_over(&next(30)));
    index.commit().unwrap();
    assert_eq!(index.positions().next(0), 30, "although there are no records to commit");
    check_holds(&index, 10);
}

#[test]
fn log_partitions_have_positions_of_their_own() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&dir);
    let mut both = records(0..4, 1);
    for record in &mut both[2..] {
        record.position.partition = 1;
    }
    index.add(&both).unwrap();
    index.commit().unwrap();
    drop(index);
    let positions: Vec<_> = open(&dir).positions().iter().collect();
    assert_eq!(positions, [(0, 2), (1, 4)]);
}

#[test]
fn a_partition_ends_with_its_day_and_when_it_is_full() {
    let dir = TempDir::new().unwrap();
    let mut index = Index::open(Config { partition_documents: 200, ..small() }, dir.path()).unwrap();
    // Noon of the first day to noon of the third, then many at once.
    index.add(&records(0..48, DAY_SECONDS / 24)).unwrap();
    let later = |n: u64| record(n, 2 * DAY_SECONDS, &event(n));
    index.add(&(48..448).map(later).collect::<Vec<_>>()).unwrap();
    index.commit().unwrap();
    check_holds(&index, 448);
    let days: Vec<String> = partitions(&dir).iter().map(|name| name[9..].to_owned()).collect();
    assert_eq!(days, ["2026-01-31", "2026-02-01", "2026-02-02", "2026-02-02"]);
    drop(index);
    check_holds(&open(&dir), 448);
}

#[test]
fn an_event_that_arrived_on_a_day_before_stays_in_the_open_partition() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&dir);
    index.add(&[record(0, DAY_SECONDS, &event(0)), record(1, 0, &event(1))]).unwrap();
    index.commit().unwrap();
    assert_eq!(partitions(&dir).len(), 1);
    check_holds(&index, 2);
}

#[test]
fn retention_removes_whole_partitions_and_not_the_position() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&dir);
    index.add(&records(0..3, 4 * DAY_SECONDS)).unwrap();
    index.commit().unwrap();
    let searcher = index.searcher();
    let old = searcher.clone();
    let mut page = request("*");
    page.limit = 1;
    page.cursor = old.search(&page).unwrap().next_cursor;
    index.finish_sealing(true).unwrap();
    index.apply_retention(time("2026-02-07T23:00:00Z")).unwrap();
    assert_eq!(partitions(&dir).len(), 3);
    // The first arrived on January 31; the retention is seven days.
    index.apply_retention(time("2026-02-08T01:00:00Z")).unwrap();
    assert_eq!((partitions(&dir).len(), all_events(&searcher).len()), (2, 2));
    assert_eq!(old.search(&page).unwrap().hits[0].event.get(), event(1));
    // All of it, the open partition too.
    index.apply_retention(time("2026-03-01T01:00:00Z")).unwrap();
    index.finish_sealing(true).unwrap();
    index.apply_retention(time("2026-03-01T01:00:00Z")).unwrap();
    assert_eq!((partitions(&dir).len(), index.stats().documents), (0, 0));
    drop(index);
    let mut index = open(&dir);
    assert_eq!(index.positions().next(0), 3);
    index.add(&records(0..4, 4 * DAY_SECONDS)).unwrap();
    index.commit().unwrap();
    assert_eq!(all_events(&index.searcher()), [event(3)]);
}

fn text_of(path: &Path) -> String {
    String::from_utf8(fs::read(path).unwrap()).unwrap()
}

/// Bytes of the events in the newest partition that are kept as the log packed them.
fn kept_bytes(index: &Index) -> u64 {
    let dir = index.partition_dir(index.published.keys().next_back().unwrap());
    fs::metadata(dir.join("events")).unwrap().len()
}

#[test]
fn what_the_log_packed_is_kept_as_it_is_and_found_beside_the_rest() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&dir);
    let all = records(0..260, 1);
    let mut expected = 0;
    for (n, part) in all.chunks(52).enumerate() {
        let together = packed(part);
        match n {
            1 => index.add(part).unwrap(),
            _ => {
                expected += together.payload.len() as u64;
                index.add_packed(part, &together).unwrap();
            }
        }
        if n % 2 == 0 {
            index.commit().unwrap();
        }
    }
    assert_eq!(kept_bytes(&index), expected);
    check_holds(&index, 260);
    // Known records are not kept again, nor those that are too few or too many to be worth it.
    index.add_packed(&all[208..], &packed(&all[208..])).unwrap();
    let (few, many) = (records(260..270, 1), records(270..1_000, 1));
    index.add_packed(&few, &packed(&few)).unwrap();
    index.add_packed(&many, &packed(&many)).unwrap();
    index.commit().unwrap();
    assert_eq!(kept_bytes(&index), expected);
    check_holds(&index, 1_000);
    drop(index);
    let index = open(&dir);
    check_holds(&index, 1_000);
    let envelope = &all[120].envelope;
    let hit = index.searcher().by_id(envelope.id).unwrap().unwrap();
    assert_eq!((hit.timestamp, hit.received_at), (envelope.event_time, Some(envelope.received_at)));
    assert_eq!((&*hit.cluster, &*hit.source, hit.history), ("prod", "kubernetes_audit", false));
    let asked = [(envelope.id, None), (record(9_999, 0, "{}").envelope.id, None)];
    assert_eq!(index.searcher().contains(&asked).unwrap(), [true, false]);
}

#[test]
fn records_packed_over_midnight_are_taken_apart() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&dir);
    let all = records(0..60, DAY_SECONDS / 40);
    index.add_packed(&all, &packed(&all)).unwrap();
    let next: Vec<_> = (60..120).map(|n| record(n, 3 * DAY_SECONDS, &event(n))).collect();
    index.add_packed(&next, &packed(&next)).unwrap();
    index.commit().unwrap();
    index.finish_sealing(true).unwrap();
    assert_eq!(partitions(&dir).len(), 3);
    assert!(kept_bytes(&index) > 0);
    check_holds(&index, 120);
    drop(index);
    check_holds(&open(&dir), 120);
}

#[test]
fn packed_records_that_were_not_committed_are_cut_off() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&dir);
    let add = |index: &mut Index, range: std::ops::Range<u64>| {
        let records = records(range, 1);
        index.add_packed(&records, &packed(&records)).unwrap();
    };
    add(&mut index, 0..50);
    index.commit().unwrap();
    let committed = kept_bytes(&index);
    add(&mut index, 50..100);
    assert!(kept_bytes(&index) > committed);
    drop(index);
    let mut index = open(&dir);
    assert_eq!(kept_bytes(&index), committed);
    add(&mut index, 50..110);
    index.commit().unwrap();
    check_holds(&index, 110);
}

#[test]
fn an_index_that_was_made_before_anything_was_kept_packed_goes_on() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&dir);
    index.add(&records(0..50, DAY_SECONDS / 25)).unwrap();
    index.commit().unwrap();
    index.finish_sealing(true).unwrap();
    let partitions: Vec<_> = index.published.keys().map(|name| index.partition_dir(name)).collect();
    drop(index);
    for partition in &partitions {
        fs::remove_file(partition.join("events")).unwrap();
        fs::remove_file(partition.join("blocks")).unwrap();
        let meta = partition.join("meta.json");
        let text = text_of(&meta);
        let before = text.replace(r#",\"blocks\":0"#, "").replace("partition_documents", "documents");
        fs::write(&meta, &before).unwrap();
        assert_eq!(text.len() - before.len(), r#",\"blocks\":0partition_"#.len());
    }
    let manifest = dir.path().join("manifest.json");
    let text = text_of(&manifest);
    fs::write(&manifest, text.replace("\"version\": 3", "\"version\": 2")).unwrap();
    let mut index = open(&dir);
    assert_eq!(text_of(&manifest).matches("\"version\": 3").count(), 1);
    check_holds(&index, 50);
    let more: Vec<_> = (50..100).map(|n| record(n, 2 * DAY_SECONDS, &event(n))).collect();
    index.add_packed(&more, &packed(&more)).unwrap();
    index.commit().unwrap();
    assert!(kept_bytes(&index) > 0);
    check_holds(&index, 100);
}

#[test]
fn damage_of_what_is_kept_packed_is_told_with_its_place() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&dir);
    let all = records(0..150, 1);
    for part in all.chunks(50) {
        index.add_packed(part, &packed(part)).unwrap();
    }
    index.commit().unwrap();
    let partition = index.partition_dir(index.published.keys().next().unwrap());
    drop(index);
    let change = |name: &str, at: usize| {
        let path = partition.join(name);
        let before = fs::read(&path).unwrap();
        let mut bytes = before.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        (path, before)
    };
    let find = |n: usize| open(&dir).searcher().by_id(all[n].envelope.id);
    let (path, before) = change("events", 100);
    let error = find(0).unwrap_err().to_string();
    assert!(error.contains("block 0, at byte 0: its checksum does not match"), "{error}");
    assert!(find(60).unwrap().is_some(), "the others are readable");
    fs::write(&path, &before[..before.len() - 1]).unwrap();
    assert!(Index::open(small(), dir.path()).is_err(), "it is shorter than was committed");
    fs::write(&path, before).unwrap();
    for name in ["events", "blocks"] {
        let (path, aside) = (partition.join(name), dir.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        let error = Index::open(small(), dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("{name}\": it is missing")) && !path.exists(), "{error}");
        fs::rename(&aside, &path).unwrap();
    }
    let (path, before) = change("blocks", 30);
    let error = Index::open(small(), dir.path()).unwrap_err().to_string();
    assert!(error.contains("row 1 is damaged"), "{error}");
    fs::write(&path, before).unwrap();
    check_holds(&open(&dir), 150);
}

#[test]
fn a_search_under_way_outlives_the_partition() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&dir);
    index.add(&records(0..2, 4 * DAY_SECONDS)).unwrap();
    index.commit().unwrap();
    index.finish_sealing(true).unwrap();
    let published: Vec<_> = index.published.values().cloned().collect();
    let opened = published[0].view().unwrap().unwrap();
    let never_opened =
        Partition::closed(&published[0].name, index.partition_dir(&published[0].name), &opened.entry());
    index.apply_retention(time("2026-02-08T01:00:00Z")).unwrap();
    assert_eq!(partitions(&dir).len(), 1);
    let segment = &opened.segments[0];
    assert_eq!(crate::search::hit(&opened, segment, 0).unwrap().event.get(), event(0));
    assert!(never_opened.view().is_err());
    never_opened.retire();
    assert!(never_opened.view().unwrap().is_none());
}

#[test]
fn a_search_opens_only_the_partitions_of_its_time() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&dir);
    index.add(&records(0..5, DAY_SECONDS)).unwrap();
    index.commit().unwrap();
    index.finish_sealing(true).unwrap();
    let open = |index: &Index| index.published.values().map(|one| one.is_open()).collect::<Vec<_>>();
    assert_eq!(open(&index), [false, false, false, false, true]);
    let third =
        crate::SearchRequest { to: Some(time("2026-02-03T00:00:00Z")), ..request("@timestamp:2026-02-02") };
    assert_eq!(index.searcher().search(&third).unwrap().hits[0].event.get(), event(2));
    assert_eq!(open(&index), [false, false, true, false, true]);
    assert_eq!(index.searcher().search(&request("verb:cr*")).unwrap().total.value, 5);
    assert_eq!(open(&index), [true; 5]);
}

#[test]
fn a_missing_manifest_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&dir);
    index.add(&records(0..60, DAY_SECONDS / 20)).unwrap();
    index.commit().unwrap();
    index.finish_sealing(true).unwrap();
    drop(index);
    fs::remove_file(dir.path().join("manifest.json")).unwrap();
    let index = open(&dir);
    assert_eq!(index.positions().next(0), 60);
    check_holds(&index, 60);
}

#[test]
fn an_unreadable_manifest_is_told() {
    let dir = TempDir::new().unwrap();
    for (text, reason) in [("{", "EOF"), (r#"{"version":9}"#, "version")] {
        fs::write(dir.path().join("manifest.json"), text).unwrap();
        let error = Index::open(small(), dir.path()).unwrap_err().to_string();
        assert!(error.contains("manifest.json") && error.contains(reason), "{error}");
    }
}

#[test]
fn what_a_crash_leaves_behind_is_removed() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&dir);
    index.add(&records(0..3, 1)).unwrap();
    index.commit().unwrap();
    let partition = index.partition_dir(partitions(&dir).first().unwrap());
    drop(index);
    let files = || fs::read_dir(&partition).unwrap().count();
    let before = files();
    // A segment that was never finished, a file that was about to replace another, a partition without a
    // commit, one that was being removed.
    let orphan = format!("{}.store", "0".repeat(32));
    let managed = partition.join(".managed.json");
    let list = String::from_utf8(fs::read(&managed).unwrap()).unwrap();
    fs::write(&managed, list.replacen('[', &format!("[\"{orphan}\","), 1)).unwrap();
    fs::write(partition.join(&orphan), "x").unwrap();
    fs::write(partition.join(".tmpAbCdEf"), "x").unwrap();
    fs::create_dir(partition.with_file_name("00000007-2026-02-01")).unwrap();
    fs::create_dir(partition.with_file_name("gone-00000000-2026-01-01")).unwrap();
    let mut index = open(&dir);
    assert_eq!((partitions(&dir).len(), files()), (1, before));
    index.add(&records(3..6, DAY_SECONDS)).unwrap();
    index.commit().unwrap();
    check_holds(&index, 6);
}

#[test]
fn after_a_failure_the_index_says_so_until_it_is_opened_again() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&dir);
    index.add(&records(0..3, 1)).unwrap();
    index.commit().unwrap();
    // The next day's partition cannot be made.
    let partitions = dir.path().join(partition::DIR);
    let aside = dir.path().join("aside");
    fs::rename(&partitions, &aside).unwrap();
    assert!(index.add(&records(3..6, DAY_SECONDS)).is_err());
    assert!(matches!(index.add(&records(3..6, DAY_SECONDS)), Err(IndexError::Closed)));
    assert!(matches!(index.commit(), Err(IndexError::Closed)));
    drop(index);
    fs::rename(&aside, &partitions).unwrap();
    let mut index = open(&dir);
    let next = index.positions().next(0);
    index.add(&records(next..6, DAY_SECONDS)).unwrap();
    index.commit().unwrap();
    check_holds(&index, 6);
    // The open partition cannot be written.
    index.add(&records(6..7, DAY_SECONDS)).unwrap();
    fs::rename(&partitions, &aside).unwrap();
    assert!(index.commit().is_err());
    assert!(matches!(index.commit(), Err(IndexError::Closed)));
    assert_eq!(index.positions().next(0), 6);
    drop(index);
    fs::rename(&aside, &partitions).unwrap();
    let mut index = open(&dir);
    index.add(&records(index.positions().next(0)..8, DAY_SECONDS)).unwrap();
    index.commit().unwrap();
    check_holds(&index, 8);
}

#[test]
fn two_cannot_write_at_once() {
    let dir = TempDir::new().unwrap();
    let mut index = open(&dir);
    index.add(&records(0..1, 1)).unwrap();
    index.commit().unwrap();
    let together = records(1..51, 1);
    index.add_packed(&together, &packed(&together)).unwrap();
    let kept = kept_bytes(&index);
    assert!(Index::open(small(), dir.path()).is_err());
    assert_eq!(kept_bytes(&index), kept, "whoever comes too late cuts nothing off");
    index.commit().unwrap();
    drop(index);
    check_holds(&open(&dir), 51);
}

#[test]
fn the_queue_lets_in_what_is_bigger_than_itself() {
    let dir = TempDir::new().unwrap();
    let mut index = Index::open(Config { queue_bytes: 1000, ..small() }, dir.path()).unwrap();
    let big = |n: u64| record(n, 0, &format!(r#"{{"n":{n},"text":"{}"}}"#, "x".repeat(5000)));
    index.add(&(0..200).map(big).collect::<Vec<_>>()).unwrap();
    index.commit().unwrap();
    assert_eq!(index.stats().documents, 200);
}

const CHILD: &str = "WATCHBELL_QUERY_TEST_CHILD";

/// Feeds the index, from where it is, until it is killed. Run by the next test only.
#[test]
fn child_that_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let config = Config { partition_documents: 700, ..small() };
    let mut index = Index::open(config, Path::new(&dir)).unwrap();
    for start in (index.positions().next(0)..).step_by(50) {
        let records = records(start..start + 50, 60);
        match start.is_multiple_of(100) {
            true => index.add_packed(&records, &packed(&records)).unwrap(),
            false => index.add(&records).unwrap(),
        }
        if start.is_multiple_of(200) {
            index.commit().unwrap();
        }
    }
}

#[test]
fn kills_lose_and_double_nothing() {
    let dir = TempDir::new().unwrap();
    let mut last = 0;
    for round in 0..100_u64 {
        // On a slow machine it takes more rounds until one comes as far as a commit.
        if round >= 12 && last > 0 {
            break;
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "index::tests::child_that_is_killed"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(60 + round * 53 % 400));
        child.kill().unwrap();
        child.wait().unwrap();
        let index = open(&dir);
        let next = index.positions().next(0);
        assert!(next >= last);
        check_holds(&index, next);
        last = next;
    }
    assert!(last > 0);
}
