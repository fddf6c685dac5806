//! Log files that are followed: whatever happens to them and to the server, every line is found exactly once.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Server, wait_until};

/// A node's directory of logs, and a container that writes numbered lines into one.
struct Node {
    dir: TempDir,
    written: usize,
}

impl Node {
    fn new() -> Self {
        let node = Self { dir: tempfile::tempdir().unwrap(), written: 0 };
        fs::create_dir_all(node.log().parent().unwrap()).unwrap();
        node
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("pods/shop_web-1_6f1c-22/app/0.log")
    }

    fn config(&self) -> String {
        let dir = self.dir.path().display();
        format!("files:\n  - path: {dir}/pods/*/*/*.log\n    cluster: prod\n")
    }

    /// Writes lines as a container runtime does, and the last one in two pieces.
    fn write(&mut self, count: usize) {
        let mut lines = String::new();
        for number in self.written..self.written + count {
            let head = format!("2026-01-31T08:15:00.{number:09}Z stdout");
            if number % 10 == 0 {
                lines += &format!("{head} P line-\n{head} F {number}\n");
            } else {
                lines += &format!("{head} F line-{number}\n");
            }
        }
        self.written += count;
        let (first, second) = lines.split_at(lines.len() - 3);
        append(&self.log(), first);
        std::thread::sleep(Duration::from_millis(20));
        append(&self.log(), second);
    }

    /// As the kubelet does.
    fn rotate(&self, number: u32) {
        fs::rename(self.log(), self.log().with_extension(format!("log.2026013{number}"))).unwrap();
    }
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// All lines are there, none twice.
async fn check_all(server: &Server, node: &Node) {
    let query = "orchestrator.namespace:shop AND orchestrator.resource.name:web-1 AND container.name:app \
        AND orchestrator.resource.id:6f1c-22 AND log.iostream:stdout";
    server.wait_for_count(query, node.written as u64).await;
    let found = server.search(query).await;
    let hits = found["hits"].as_array().unwrap();
    let mut messages: Vec<&str> = hits.iter().map(|hit| hit["event"]["message"].as_str().unwrap()).collect();
    messages.sort_unstable();
    messages.dedup();
    assert_eq!(messages.len(), node.written);
    assert!(messages.iter().all(|message| message.starts_with("line-")), "{messages:?}");
}

#[tokio::test]
async fn every_line_is_found_once_over_rotations_and_crashes() {
    let mut node = Node::new();
    node.write(100);
    let mut server = Server::start(&node.config()).await;
    for round in 0..3 {
        check_all(&server, &node).await;
        node.write(100);
        // somewhere between reading, appending and keeping positions
        tokio::time::sleep(Duration::from_millis(150 + 350 * u64::from(round))).await;
        node.write(20);
        server.kill();
        node.write(30);
        node.rotate(round);
        node.write(50);
        server.restart().await;
    }
    check_all(&server, &node).await;
    assert_eq!(server.stop(), Some(0));
    node.write(40);
    server.restart().await;
    check_all(&server, &node).await;
    let metrics = server.get("/metrics").send().await.unwrap().text().await.unwrap();
    for name in ["watchbell_tail_lines_total", "watchbell_tail_files{state=\"followed\"}"] {
        assert!(metrics.contains(name), "{name}: {metrics}");
    }
}

#[tokio::test]
async fn an_emptied_file_is_read_from_its_beginning() {
    let mut node = Node::new();
    let server = Server::start(&node.config()).await;
    for emptied in 1..=3 {
        node.write(30);
        server.wait_for_count("container.name:app", node.written as u64).await;
        fs::write(node.log(), "").unwrap();
        let seen = format!("watchbell_tail_truncations_total {emptied}");
        wait_until("the file is seen empty", async || {
            server.get("/metrics").send().await.unwrap().text().await.unwrap().contains(&seen)
        })
        .await;
    }
    check_all(&server, &node).await;
    wait_until("the files are a source that is read to its end", async || {
        let sources = server.json("/api/v1/sources").await["sources"].clone();
        let mut sources = sources.as_array().unwrap().iter();
        sources.any(|source| {
            (&source["cluster"], &source["route"]) == (&json!("prod"), &json!("files"))
                && source["credential"].is_null()
                && source["stored"].as_u64() > Some(0)
                && source["lag"] == json!({ "bytes": 0 })
        })
    })
    .await;
}

#[tokio::test]
async fn a_stack_trace_is_one_event_and_files_need_no_restart() {
    let node = Node::new();
    let server = Server::start(&node.config()).await;
    append(
        &node.log(),
        "2026-01-31T08:15:00Z stderr F java.lang.IllegalStateException: broken\n\
         2026-01-31T08:15:00Z stderr F \tat com.example.Main.main(Main.java:1)\n\
         2026-01-31T08:15:00Z stderr F ready again\n",
    );
    server.wait_for_count("container.name:app", 2).await;
    let hit = &server.search("message:broken").await["hits"][0]["event"];
    let expect = "java.lang.IllegalStateException: broken\n\tat com.example.Main.main(Main.java:1)";
    assert_eq!(hit["message"], expect);
}
