//! Listeners beside HTTP. What they receive goes through the same quotas, the same budget of bytes in flight and the
//! same pipeline; where HTTP would answer "later", they stop reading.

mod forward;
mod sender;
mod stream;
mod syslog;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock;
use crate::config::Config;
use crate::http::{self, ApiError, App, Share};
use crate::pipeline::{Ingested, Request, stopped};
use crate::sources::{Delivery, Source};
use crate::tls::Tls;

/// Longest time between two attempts to deliver.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Everything that listens, before it is served.
pub(crate) struct Inputs {
    syslog: syslog::Listeners,
    forward: Option<forward::Listener>,
}

impl Inputs {
    /// Binds all addresses.
    ///
    /// # Errors
    /// Names the address that cannot be used.
    pub(crate) async fn bind(config: &Config, tls: Option<&Arc<Tls>>) -> Result<Self> {
        Ok(Self {
            syslog: syslog::Listeners::bind(&config.syslog, tls).await?,
            forward: forward::Listener::bind(&config.forward, tls).await?,
        })
    }

    /// Serves until `stopping`; the tasks end when what was received is stored.
    pub(crate) fn serve(self, app: &Arc<App>, stopping: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
        let mut tasks = self.syslog.serve(app, stopping);
        tasks.extend(self.forward.map(|forward| forward.serve(app, stopping)));
        tasks
    }
}

/// Takes a body in, again and again until it is stored. Whoever sent it meanwhile waits, because nothing more is read.
///
/// # Errors
/// If it can never be stored, or the server stops.
async fn deliver(
    app: &App,
    source: &Source,
    share: &mut Share,
    (request, body): (Request, Bytes),
    stopping: &watch::Receiver<bool>,
) -> Result<Ingested, ApiError> {
    let (peer, bytes) = (request.peer, body.len() + request.payload.bytes_beside_body());
    let taken = loop {
        let error = match http::take(app, source, share, (request.clone(), body.clone())).await {
            Ok(ingested) => break Ok(ingested),
            Err(error) => error,
        };
        let Some(seconds) = error.retry_after_seconds else { break Err(error) };
        if *stopping.borrow() {
            break Err(error);
        }
        pause(Duration::from_secs(seconds.into()).min(MAX_WAIT), stopping).await;
    };
    let outcome = taken.as_ref().map_err(|error| error.code);
    app.pipeline.sources().note(
        source,
        &Delivery { peer: Some(peer), bytes: bytes as u64, outcome },
        clock::now(),
    );
    taken
}

/// Makes the share cover `bytes`, and waits until it can.
///
/// # Errors
/// If there is no room for longer than `patience`, or the server stops.
async fn wait_for_room(
    app: &App,
    share: &mut Share,
    bytes: usize,
    patience: Duration,
    stopping: &watch::Receiver<bool>,
) -> Result<(), ApiError> {
    let started = tokio::time::Instant::now();
    loop {
        let Err(error) = app.budget.grow(share, bytes as u64) else { return Ok(()) };
        if *stopping.borrow() || started.elapsed() > patience {
            return Err(error);
        }
        pause(Duration::from_millis(100), stopping).await;
    }
}

async fn pause(wait: Duration, stopping: &watch::Receiver<bool>) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = stopped(stopping.clone()) => {}
    }
}
