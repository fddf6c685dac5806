//! What the whole path is compared with, on the same events: parsing alone, and tantivy alone.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use watchbell_event::{Envelope, EventId, Format};

use crate::clock;
use crate::generator::Generator;
use crate::stats::per_second;

/// The server commits this often unless configured otherwise.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// Events per second that one thread parses into `serde_json::Value`.
pub(crate) fn value_parse(generator: &mut Generator, duration: Duration) -> Result<f64> {
    let (mut events, mut parsing) = (0, Duration::ZERO);
    while parsing < duration {
        let load = generator.next(clock::now());
        let started = Instant::now();
        for event in load.events() {
            let value: serde_json::Value =
                serde_json::from_slice(event).context("failed to parse an event")?;
            std::hint::black_box(&value);
            events += 1;
        }
        parsing += started.elapsed();
    }
    Ok(per_second(events, parsing))
}

/// Events per second that tantivy alone indexes, parsing included, with the schema, threads, heap, merges and
/// commit interval of the server.
pub(crate) fn bare_tantivy(generator: &mut Generator, dir: &Path, duration: Duration) -> Result<f64> {
    let dir = tempfile::tempdir_in(dir)?;
    let index = watchbell_query::bare::create(dir.path())?;
    let mut writer = watchbell_query::bare::writer(&index, watchbell_query::Config::default().heap_bytes)?;
    let documents = watchbell_query::bare::documents();
    // The indexing thread works through its queue while the next batch is made, so all time counts.
    let (mut seq, started, mut committed) = (0, Instant::now(), Instant::now());
    while started.elapsed() < duration {
        for envelope in &envelopes(generator) {
            writer.add_document(documents.build(envelope, seq))?;
            seq += 1;
        }
        if committed.elapsed() >= COMMIT_EVERY {
            writer.commit()?;
            committed = Instant::now();
        }
    }
    writer.commit()?;
    Ok(per_second(seq, started.elapsed()))
}

/// A batch as the log hands it to the index.
fn envelopes(generator: &mut Generator) -> Vec<Envelope> {
    let now = clock::now();
    let load = generator.next(now);
    let ranges: Vec<_> = load.ranges().to_vec();
    let body = Bytes::from(load.body);
    let envelope = |range: std::ops::Range<usize>| {
        let bytes = body.slice(range);
        Envelope {
            id: EventId::from_hash(&blake3::hash(&bytes)),
            received_at: now,
            event_time: now,
            source: "audit".into(),
            cluster: "bench".into(),
            format: Format::KubernetesAudit,
            peer: Some(std::net::Ipv4Addr::LOCALHOST.into()),
            history: false,
            bytes,
        }
    };
    ranges.into_iter().map(envelope).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn baselines_take_all_events() {
        let mut generator = Generator::small(1);
        assert!(value_parse(&mut generator, Duration::from_millis(10)).unwrap() > 100.0);
        let dir = tempfile::tempdir().unwrap();
        assert!(bare_tantivy(&mut generator, dir.path(), Duration::from_millis(10)).unwrap() > 10.0);
    }
}
