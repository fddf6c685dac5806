//! Disks that fill up and files that are damaged.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use serde_json::{Value, json};

use crate::support::{Server, cluster_admin_binding, event, event_list};

/// Events whose bodies do not compress.
fn bulky(first: u64, count: u64) -> Vec<Value> {
    let mut state = first + 1;
    let noise = |state: &mut u64| {
        (0..400)
            .map(|_| {
                *state =
                    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                format!("{:08x}", *state >> 32)
            })
            .collect::<String>()
    };
    (first..first + count)
        .map(|n| {
            let mut event = event(&format!("bulky-{n}"));
            event["annotations"]["noise"] = json!(noise(&mut state));
            event
        })
        .collect()
}

/// Posts until intake says no; returns how many events were stored and the refusal.
async fn fill(server: &Server) -> (u64, reqwest::Response) {
    for batch in 0..200 {
        let response = server.post("prod", event_list(&bulky(batch * 100, 100)).to_string()).await;
        if !response.status().is_success() {
            return (batch * 100, response);
        }
    }
    panic!("intake never said no");
}

#[tokio::test]
async fn a_full_journal_answers_429_and_overwrites_nothing() {
    let server = Server::start("journal: {segment_size: 1MiB, max_size: 4MiB}\n").await;
    let (stored, refusal) = fill(&server).await;
    assert_eq!(refusal.status(), 429);
    let wait: u32 = refusal.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    assert!(refusal.text().await.unwrap().contains("size limit"));
    assert!(stored > 500, "{stored}");
    server.wait_for_count("cluster:prod", stored).await;
    // Senders wait, but people must still be able to search.
    let ready = server.http.get(format!("{}/readyz", server.base)).send().await.unwrap();
    assert_eq!(ready.status(), 200);
    let closed = server.json("/api/v1/status").await["intake_closed"].clone();
    assert!(closed.as_str().unwrap().contains("size limit"), "{closed}");
}

#[tokio::test]
async fn a_full_journal_takes_events_again_once_old_segments_may_go() {
    let config = "journal: {segment_size: 1MiB, max_size: 4MiB, retention: 1s}\n";
    let mut server = Server::start(config).await;
    let (stored, refusal) = fill(&server).await;
    assert_eq!(refusal.status(), 429);
    server.wait_for_count("cluster:prod", stored).await;
    // At a start segments that everybody has read and that are past retention go.
    server.stop();
    server.restart().await;
    for _ in 0..60 {
        let response = server.post("prod", event("after").to_string()).await;
        if response.status().is_success() {
            server.wait_for_count("auditID:after", 1).await;
            server.wait_for_count("cluster:prod", stored + 1).await;
            return;
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    panic!("intake stayed closed\n{}", server.log());
}

#[tokio::test]
async fn a_disk_with_too_little_room_is_not_filled_up() {
    let server = Server::start("journal: {min_free_disk: 1000TiB}\n").await;
    let response = server.post("prod", event("x").to_string()).await;
    assert_eq!(response.status(), 429);
    assert!(response.text().await.unwrap().contains("disk is nearly full"));
    let closed = server.json("/api/v1/status").await["intake_closed"].clone();
    assert!(closed.as_str().unwrap().contains("disk is nearly full"), "{closed}");
}

#[tokio::test]
async fn damage_in_the_journal_is_reported_and_costs_only_what_is_damaged() {
    let mut server = Server::start("").await;
    for batch in 0..20 {
        server.ingest("prod", &bulky(batch * 10, 10)).await;
    }
    server.wait_for_count("cluster:prod", 200).await;
    server.stop();
    let verify = ["verify", "--format", "json"];
    let whole = server.run(&verify);
    assert_eq!(whole.status.code(), Some(0), "{whole:?}");
    flip_a_byte_in_the_middle(longest_segment(&server));
    let broken = server.run(&verify);
    assert_eq!(broken.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&broken.stdout).unwrap();
    assert!(report["broken"]["byte"].as_u64().unwrap() > 0, "{report}");
    // The index is made anew from the journal, so every frame is read.
    std::fs::remove_dir_all(server.data_dir().join("index")).unwrap();
    server.restart().await;
    server.ingest("prod", &[event("afterwards")]).await;
    server.wait_for_count("auditID:afterwards", 1).await;
    let damage = server.json("/api/v1/status").await["log"]["corruptions"].clone();
    let damage = damage.as_array().unwrap();
    assert_eq!(damage.len(), 1, "{damage:?}");
    let lost =
        damage[0]["end_record_lost"].as_u64().unwrap() - damage[0]["first_record_lost"].as_u64().unwrap();
    assert!((1..=20).contains(&lost), "{damage:?}");
    assert_eq!(server.count("cluster:prod").await, 201 - lost);
    assert!(server.log().contains("ERROR"), "damage must be loud");
}

/// Events that the index keeps as the journal has packed them.
#[tokio::test]
async fn who_searches_what_is_damaged_in_the_index_is_told_so_and_what_to_do() {
    let mut server = Server::start("").await;
    server.ingest("prod", &bulky(0, 100)).await;
    server.ingest("other", &[event("elsewhere")]).await;
    server.wait_for_count("cluster:prod", 100).await;
    server.stop();
    let partitions = std::fs::read_dir(server.data_dir().join("index/partitions")).unwrap();
    let packed = partitions.map(|entry| entry.unwrap().path().join("events")).find(|path| path.exists());
    flip_a_byte_in_the_middle(File::options().read(true).write(true).open(packed.unwrap()).unwrap());
    server.restart().await;
    assert_eq!(server.json("/api/v1/search?q=cluster:other").await["hits"].as_array().unwrap().len(), 1);
    for path in ["/api/v1/search?q=cluster:prod", "/api/v1/export?q=cluster:prod"] {
        let refused = server.get(path).send().await.unwrap();
        assert_eq!(refused.status(), 500, "{path}");
        let error = refused.json::<Value>().await.unwrap()["error"].clone();
        assert_eq!(error["code"], "index_unreadable", "{path}");
        assert!(error["message"].as_str().unwrap().contains("can be deleted"), "{error}");
    }
    assert!(server.log().contains("checksum"), "the log says what is damaged");
    server.stop();
    std::fs::remove_dir_all(server.data_dir().join("index")).unwrap();
    server.restart().await;
    server.wait_for_count("cluster:prod", 100).await;
}

/// The end of a journal is lost, or the whole journal, after others have read it. A third of it is lost, since
/// what the server itself wrote last, on being asked, may not have been read by anybody when it stops.
#[tokio::test]
async fn a_journal_that_lost_its_end_goes_on_and_keeps_the_index() {
    for lose_all in [false, true] {
        let mut server = Server::start("").await;
        for batch in 0..3 {
            server.ingest("prod", &bulky(batch * 10, 10)).await;
        }
        server.wait_for_count("cluster:prod", 30).await;
        server.stop();
        match lose_all {
            true => std::fs::remove_dir_all(server.data_dir().join("journal")).unwrap(),
            false => cut_off_a_third(&server),
        }
        server.restart().await;
        // The journal's own readers' file or, if that is lost or late, the index tells how far it once went.
        let log = server.log();
        assert!(log.contains("end_missing") || log.contains("readers had come further"), "{log}");
        server.ingest("prod", &[cluster_admin_binding("afterwards", "mallory")]).await;
        server.wait_for_count("cluster:prod", 31).await;
        let of_mallory = |alerts: &[Value]| alerts.iter().any(|alert| alert.to_string().contains("mallory"));
        server.wait_for_alerts("the alert after the loss", of_mallory).await;
        server.stop();
        server.restart().await;
        server.ingest("prod", &[event("later")]).await;
        server.wait_for_count("cluster:prod", 32).await;
    }
}

fn cut_off_a_third(server: &Server) {
    let segment = longest_segment(server);
    let len = segment.metadata().unwrap().len();
    segment.set_len(len - len / 3).unwrap();
}

fn longest_segment(server: &Server) -> File {
    let journal = server.data_dir().join("journal");
    let segments = std::fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path());
    let segments = segments.filter(|path| path.extension().is_some_and(|extension| extension == "wbj"));
    let segment = segments.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    File::options().read(true).write(true).open(&segment).unwrap()
}

fn flip_a_byte_in_the_middle(mut file: File) {
    let place = SeekFrom::Start(file.metadata().unwrap().len() / 2);
    let mut byte = [0];
    file.seek(place).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(place).unwrap();
    file.write_all(&[byte[0] ^ 0x55]).unwrap();
}
