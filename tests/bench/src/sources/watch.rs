//! Watches a server take events in, until all of them are evaluated and can be searched.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Route;
use super::report::Row;
use crate::pipeline::client::Connection;
use crate::pipeline::process::cpu_seconds;
use crate::pipeline::server::{Progress, Server};

const LOOK_EVERY: Duration = Duration::from_millis(20);
const DEADLINE: Duration = Duration::from_secs(300);

/// Since when, and what there was before.
pub(super) struct Watch {
    status: Connection,
    process: u32,
    before: Progress,
    cpu_before: f64,
    begun: Instant,
}

impl Watch {
    pub(super) async fn begin(server: &Server) -> Result<Self> {
        let mut status = server.connect().await?;
        let before = Progress::read(&mut status).await?;
        let process = server.process();
        Ok(Self { status, process, before, cpu_before: used(process)?, begun: Instant::now() })
    }

    /// Waits for so many events.
    pub(super) async fn finish(mut self, route: Route, events: u64, bytes: u64) -> Result<Row> {
        let mut logged_after = None;
        loop {
            let now = Progress::read(&mut self.status).await?;
            let took = self.begun.elapsed();
            let arrived = |count: u64, before: u64| count.saturating_sub(before) >= events;
            if arrived(now.logged, self.before.logged) {
                let logged_after = *logged_after.get_or_insert(took);
                if arrived(now.indexed, self.before.indexed) && arrived(now.detected, self.before.detected) {
                    let core = used(self.process)? - self.cpu_before;
                    return Ok(Row::new(route, events, bytes, [logged_after, took], core));
                }
            }
            ensure!(
                took < DEADLINE,
                "{events} events were sent, but after {DEADLINE:?} the server has {now:?}"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn used(process: u32) -> Result<f64> {
    cpu_seconds(process).context("the server has ended")
}
