//! The threads that decode requests.

use std::any::Any;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::sync::{Semaphore, oneshot};

/// By how much decoding steps back behind everything else. With all processors busy, what was taken in is then detected
/// and indexed before more is taken in, and whoever sends too much waits.
const NICENESS: i32 = 5;

/// Decoding panicked; the log says why.
#[derive(Debug, thiserror::Error)]
#[error("decoding broke down")]
pub(super) struct Broken;

/// As many threads as there are processors; more would only take turns on them.
pub(super) struct Decoders {
    pool: rayon::ThreadPool,
    turns: Arc<Semaphore>,
}

impl Decoders {
    /// # Errors
    /// If the system gives no threads.
    pub(super) fn start() -> Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|number| format!("decode {number}"))
            .start_handler(|_| give_way())
            // whoever waits for what panicked is told, too, and the others go on
            .panic_handler(|panic| tracing::error!(panic = message(&*panic), "decoding broke down"))
            .build()
            .context("failed to start threads to decode with")?;
        Ok(Self { pool, turns: Arc::new(Semaphore::new(count)) })
    }

    /// Does this on one of the threads. If the future is dropped before its turn comes, it is not done.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        decode: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Broken> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let (done, decoded) = oneshot::channel();
        self.pool.spawn(move || {
            let _turn = turn;
            // nobody waits any more if this fails
            let _ = done.send(decode());
        });
        decoded.await.map_err(|_| Broken)
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("of no text")
}

fn give_way() {
    // Elsewhere this would slow down the whole process.
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::nice(NICENESS)
    {
        tracing::debug!(%error, "decoding has the priority of everything else");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_panics_is_told_and_leaves_the_others_their_turns() {
        let decoders = Decoders::start().unwrap();
        let turns = decoders.turns.available_permits();
        for _ in 0..2 * turns {
            assert!(decoders.run(|| panic!("as it should")).await.is_err_and(|Broken| true));
        }
        assert_eq!(decoders.run(|| 7).await.ok(), Some(7));
        assert_eq!(message(&"a"), "a");
        assert_eq!(message(&"b".to_owned()), "b");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn decoding_steps_back_behind_who_asks_for_it() {
        let niceness = || rustix::process::nice(0).unwrap();
        let decoders = Decoders::start().unwrap();
        let expect = (niceness() + NICENESS).min(19);
        assert!(decoders.pool.broadcast(|_| niceness()).iter().all(|thread| *thread == expect));
    }
}
