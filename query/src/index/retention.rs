//! Removing partitions that are past retention.

use std::fs;

use watchbell_event::Timestamp;

use super::{Index, partition};
use crate::IndexError;

impl Index {
    /// Removes whole partitions. The manifest keeps how far the log was indexed, so that what is removed is
    /// not read from the log again. Searches under way finish on the files they have mapped or hold open.
    pub(super) fn retire(&mut self, now: Timestamp) -> Result<(), IndexError> {
        self.finish_sealing(false)?;
        self.show_merged()?;
        if self.config.retention_days == 0 {
            return Ok(());
        }
        let first_kept = now.day() - i64::from(self.config.retention_days);
        let past = |name: &str| partition::day(name).is_some_and(|day| day < first_kept);
        if self.writer.as_ref().is_some_and(|writer| past(&writer.name)) {
            self.seal()?;
        }
        let sealed = self.manifest.partitions.iter().filter(|(_, entry)| entry.sealed);
        let names: Vec<String> = sealed.map(|(name, _)| name.clone()).filter(|name| past(name)).collect();
        if names.is_empty() {
            return Ok(());
        }
        for name in &names {
            self.manifest.partitions.remove(name);
            if let Some(partition) = self.published.remove(name) {
                partition.retire();
            }
        }
        self.manifest.save(&self.dir)?;
        self.publish();
        for name in &names {
            match self.remove(name) {
                Ok(()) => metrics::counter!("watchbell_index_partitions_removed_total").increment(1),
                // Only its room on the disk is not given back; that is no reason to index nothing more.
                Err(error) => {
                    metrics::counter!("watchbell_index_partitions_not_removed_total").increment(1);
                    tracing::error!(partition = name, %error, "failed to remove a partition past retention");
                }
            }
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        let path = self.partition_dir(name);
        let gone = path.with_file_name(format!("{}{name}", partition::GONE));
        fs::rename(&path, &gone)?;
        fs::remove_dir_all(&gone)
    }
}
