//! What a process costs, as Linux says in `/proc`.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Linux's unit of processor time towards programs, on all architectures that Rust's tier 1 has.
const TICKS_PER_SECOND: f64 = 100.0;
const MAX_BYTES: u64 = 64 << 10;

/// Processor time of all threads so far, user and system, in seconds.
pub(crate) fn cpu_seconds(process: u32) -> Option<f64> {
    let stat = read(&format!("/proc/{process}/stat"))?;
    // The name in parentheses may contain blanks; utime and stime are the 14th and 15th field.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}

/// Processor time of everything on this machine so far, in seconds; with what a hypervisor took away.
pub(crate) fn machine_cpu_seconds() -> Option<f64> {
    let stat = read("/proc/stat")?;
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    // user, nice, system, idle, iowait, irq, softirq, steal
    let ticks: Vec<f64> = fields.take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let idle: f64 = ticks.get(3..5)?.iter().sum();
    Some((ticks.iter().sum::<f64>() - idle) / TICKS_PER_SECOND)
}

/// Memory that is not backed by files, in bytes.
pub(crate) fn anonymous_bytes(process: u32) -> Option<u64> {
    let status = read(&format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// Watches a process's memory until dropped.
pub(crate) struct MemoryWatch {
    peak_bytes: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl MemoryWatch {
    pub(crate) fn start(process: u32) -> Self {
        let peak_bytes = Arc::new(AtomicU64::new(0));
        let peak = Arc::clone(&peak_bytes);
        let task = tokio::spawn(async move {
            while let Some(bytes) = anonymous_bytes(process) {
                peak.fetch_max(bytes, Ordering::Relaxed);
                tokio::time::sleep(SAMPLE_EVERY).await;
            }
        });
        Self { peak_bytes, task }
    }

    pub(crate) fn peak_bytes(&self) -> u64 {
        self.peak_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn read(path: &str) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_has_memory_and_uses_time() {
        let own = std::process::id();
        assert!(anonymous_bytes(own).unwrap() > 100 << 10);
        let (before, machine) = (cpu_seconds(own).unwrap(), machine_cpu_seconds().unwrap());
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(300) {
            std::hint::spin_loop();
        }
        assert!(cpu_seconds(own).unwrap() > before);
        assert!(machine_cpu_seconds().unwrap() > machine);
        assert!(cpu_seconds(u32::MAX).is_none());
    }
}
