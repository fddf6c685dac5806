//! Topics: a server that finds them full, and reads them to their end.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Route;
use super::broker::{Broker, Contents, Topic};
use super::report::Row;
use crate::pipeline::process::cpu_seconds;
use crate::pipeline::server::{self, Server};

const LOOK_EVERY: Duration = Duration::from_millis(20);
const DEADLINE: Duration = Duration::from_secs(300);

/// Measures a server on a topic.
pub(super) async fn run(binary: &Path, parent: &Path, broker: &Broker, topic: &Topic) -> Result<Row> {
    let dir = tempfile::tempdir_in(parent)?;
    let server = Server::start_with(binary, dir.path(), &broker.configuration(topic)).await?;
    let row = read(&server, topic).await.map_err(|error| error.context(server::log_tail(dir.path())))?;
    server.stop().await?;
    Ok(row)
}

/// The start of the program does not count: the rate is that of what comes after the first tenth.
async fn read(server: &Server, topic: &Topic) -> Result<Row> {
    let mut status = server.connect().await?;
    let begun = Instant::now();
    let mut first: Option<(Instant, u64)> = None;
    loop {
        let [indexed, detected] = progress(&status.get("/api/v1/status").await?, topic.messages);
        if first.is_none() && indexed >= topic.messages / 10 {
            first = Some((Instant::now(), indexed));
        }
        if let (Some((since, before)), true) = (first, indexed.min(detected) >= topic.messages) {
            let counted = topic.messages.saturating_sub(before).max(1);
            let took = since.elapsed().mul_f64(topic.messages as f64 / counted as f64);
            let core = cpu_seconds(server.process()).context("the server has ended")?;
            let route = if topic.contents == Contents::Audit { Route::KafkaAudit } else { Route::KafkaLogs };
            return Ok(Row::new(route, topic.messages, topic.bytes, [took, took], core));
        }
        ensure!(
            begun.elapsed() < DEADLINE,
            "after {DEADLINE:?} {indexed} of {} messages are indexed, {detected} evaluated",
            topic.messages
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Messages that are indexed, and evaluated. A partition that is not known yet has not been read.
fn progress(status: &Value, messages: u64) -> [u64; 2] {
    let partitions = status.pointer("/kafka/topics/0/partitions").and_then(Value::as_array);
    let partitions = partitions.map(Vec::as_slice).unwrap_or_default();
    let end: u64 = partitions.iter().filter_map(|partition| partition["end"].as_u64()).sum();
    if end < messages {
        return [0, 0];
    }
    ["index", "detect"].map(|reader| {
        let lag = |partition: &Value| partition[reader]["lag"].as_u64().unwrap_or(messages);
        messages.saturating_sub(partitions.iter().map(lag).sum())
    })
}
