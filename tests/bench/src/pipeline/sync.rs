//! What the disk alone takes to make a frame durable.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::random::Random;
use crate::stats::{Quantiles, Times};

const FRAMES: usize = 400;
/// Between two frames, so that the disk is as idle as it is at half load.
const PAUSE: Duration = Duration::from_millis(5);

/// Appends frames of `frame_bytes` to a file as the journal does, and times write and `fdatasync`.
pub(crate) fn fdatasync(dir: &Path, frame_bytes: usize) -> Result<Quantiles> {
    let path = dir.join("fdatasync");
    let mut file =
        OpenOptions::new().create(true).append(true).open(&path).context("failed to create a file")?;
    let mut random = Random::new(1);
    let frame: Vec<u8> =
        std::iter::repeat_with(|| random.next().to_le_bytes()).flatten().take(frame_bytes).collect();
    let mut times = Times::default();
    for _ in 0..FRAMES {
        let started = Instant::now();
        file.write_all(&frame)?;
        file.sync_data().context("failed to sync")?;
        times.push(started.elapsed());
        std::thread::sleep(PAUSE);
    }
    std::fs::remove_file(path)?;
    Ok(times.quantiles())
}
