use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::testing::{all_events, record, request, small, time};

const DAY_SECONDS: i64 = 86_400;

fn event(n: u64) -> String {
    format!(r#"{{"verb":"create","n":{n},"objectRef":{{"name":"pod-{n}"}}}}"#)
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
    assert!(Index::open(small(), dir.path()).is_err());
    drop(index);
    check_holds(&open(&dir), 1);
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
        index.add(&records(start..start + 50, 60)).unwrap();
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
