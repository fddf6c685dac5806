//! Reads one batch ahead, in a thread of its own: decompressing, or decoding messages of topics, need not wait for what is
//! done with records, nor that for them.

use std::io;
use std::thread::{self, JoinHandle};

use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};
use watchbell_event::Positions;

use super::{Batch, LogError, LogReader};

/// Another reader, whose next batch is there already, if there is one. Its thread ends with this.
#[derive(Debug)]
pub struct ReadAhead {
    batches: Receiver<Result<Batch, LogError>>,
    /// After what was handed out.
    at: Positions,
    thread: Option<JoinHandle<()>>,
}

impl ReadAhead {
    /// Must be called within a runtime.
    pub(super) fn start(reader: LogReader, max_events: usize, max_bytes: usize) -> io::Result<Self> {
        let (sender, batches) = mpsc::channel(1);
        let (at, runtime) = (reader.positions(), Handle::current());
        let run = move || runtime.block_on(read(reader, max_events, max_bytes, &sender));
        let thread = thread::Builder::new().name("read ahead".to_owned()).spawn(run)?;
        Ok(Self { batches, at, thread: Some(thread) })
    }

    pub(super) async fn next(&mut self) -> Result<Batch, LogError> {
        let Some(batch) = self.batches.recv().await else {
            // whoever reads must not take the end of the thread for the end of the log
            if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
                std::panic::resume_unwind(panic);
            }
            return Err(LogError::Closed);
        };
        if let Ok(batch) = &batch {
            for (partition, next) in batch.next.iter() {
                self.at.set_next(partition, next);
            }
        }
        batch
    }

    pub(super) fn positions(&self) -> &Positions {
        &self.at
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.batches.close();
        // what it waits for may be part of a runtime that ends next
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Until the log is closed, or nobody takes batches any more.
async fn read(
    mut reader: LogReader,
    max_events: usize,
    max_bytes: usize,
    batches: &Sender<Result<Batch, LogError>>,
) {
    loop {
        let batch = tokio::select! {
            biased;
            () = batches.closed() => return,
            batch = Box::pin(reader.next(max_events, max_bytes)) => batch,
        };
        let is_end = matches!(batch, Err(LogError::Closed));
        if batches.send(batch).await.is_err() || is_end {
            return;
        }
    }
}
