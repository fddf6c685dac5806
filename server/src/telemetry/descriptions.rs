//! What each metric means, as `/metrics` tells it.

/// Names and meanings, in the order of their names.
pub(super) const DESCRIPTIONS: &[(&str, &str)] = &[
    ("watchbell_alerting_alerts_total", "Alerts that were opened."),
    ("watchbell_alerting_attempts_total", "Attempts to tell a receiver, by what came of them."),
    (
        "watchbell_alerting_dead_letters",
        "Notifications that were given up; see watchbell alerts dead-letters.",
    ),
    ("watchbell_alerting_delivery_seconds", "Time an attempt to tell a receiver took."),
    ("watchbell_alerting_events_beyond_limit_total", "Events of alerts that are counted but not listed."),
    ("watchbell_alerting_notices_total", "Notifications that were due to receivers."),
    ("watchbell_alerting_occurrences_total", "Detections that were counted with an alert."),
    ("watchbell_alerting_pending", "Notifications that wait to be sent."),
    ("watchbell_alerting_pruned_total", "Alerts that were deleted because they are old or too many."),
    ("watchbell_alerting_pruned_undelivered_total", "Deleted alerts of which a receiver had not been told."),
    ("watchbell_alerting_quota_waits_total", "Times a receiver's quota held messages back."),
    ("watchbell_alerting_receiver_disabled", "1 if a receiver said that it is gone, until the next start."),
    (
        "watchbell_alerting_returned_notices_total",
        "Notifications that did not fit into a message and wait for the next.",
    ),
    ("watchbell_alerting_suppressed_total", "Detections that notify nobody because they were imported."),
    ("watchbell_correlation_bytes", "Memory that a correlation's state takes."),
    (
        "watchbell_correlation_evicted_entries_total",
        "Events a correlation forgot early to stay within its memory.",
    ),
    (
        "watchbell_correlation_evicted_groups_total",
        "Groups a correlation forgot early to stay within its memory.",
    ),
    ("watchbell_correlation_groups", "Groups that a correlation is counting."),
    ("watchbell_correlation_late_events_total", "Events that came too late to be counted by correlations."),
    ("watchbell_correlation_save_failures_total", "Failures to keep the state of correlations on disk."),
    ("watchbell_correlation_watermark_seconds", "Event time up to which correlations are decided."),
    ("watchbell_detect_busy_microseconds_total", "Time that detection spent on events."),
    ("watchbell_detect_events_total", "Events that detection read from the log."),
    ("watchbell_detect_forwarded_events_total", "Events that were passed on to the process that alerts."),
    ("watchbell_detections_total", "Detections that were committed."),
    ("watchbell_export_seconds", "Time that one page of an export took."),
    ("watchbell_http_connections", "Open HTTP connections."),
    ("watchbell_http_forbidden_total", "Requests with a credential that does not allow them."),
    ("watchbell_http_tls_failures_total", "TLS handshakes that failed."),
    ("watchbell_http_unauthenticated_total", "Requests without a valid credential."),
    ("watchbell_index_commit_seconds", "Time that a commit of the index took."),
    (
        "watchbell_index_cut_events_total",
        "Events too large to be searchable in every part; they are kept whole.",
    ),
    ("watchbell_index_cut_values_total", "Values too long to be searchable; they are kept whole."),
    ("watchbell_index_events_total", "Events that became searchable."),
    ("watchbell_index_failures_total", "Failures of the index, after which it opens anew and goes on."),
    ("watchbell_index_late_duplicates_total", "Events that were sent again long after and not stored twice."),
    ("watchbell_index_partitions_not_removed_total", "Failures to delete old partitions of the index."),
    (
        "watchbell_index_partitions_removed_total",
        "Partitions of the index that were deleted because they are old.",
    ),
    ("watchbell_index_queue_full_total", "Times the reader of the log waited for the index."),
    ("watchbell_ingest_answer_seconds", "Time from a request's body to its answer, durability included."),
    ("watchbell_ingest_duplicate_events_total", "Events that were sent again and not stored twice."),
    ("watchbell_ingest_events_total", "Events that were stored."),
    ("watchbell_ingest_flaws_total", "Events that were not as they should be, by what became of them."),
    ("watchbell_ingest_log_records_total", "Log records that were read, by their format."),
    (
        "watchbell_ingest_quarantine_rotated_out_total",
        "Entries that the quarantine dropped to stay within its size.",
    ),
    ("watchbell_ingest_quarantined_total", "Entries that went into quarantine."),
    ("watchbell_ingest_refused_total", "Requests that were refused; their senders should come again."),
    ("watchbell_ingest_rejected_events_total", "Events that could not be read."),
    (
        "watchbell_ingest_window_evicted_early_total",
        "Identities that were forgotten before their time; raise ingest.dedupe_max_events.",
    ),
    ("watchbell_ingest_window_ids", "Identities of recent events that are known."),
    ("watchbell_input_connections", "Open connections of syslog and forward senders."),
    ("watchbell_input_refused_total", "Connections of syslog and forward senders that were refused."),
    ("watchbell_intake_open", "1 if the log takes events."),
    ("watchbell_journal_bytes", "Bytes that the log occupies."),
    (
        "watchbell_kafka_aborted_transactions_total",
        "Transactions that failed; what they held is read and passed on again.",
    ),
    ("watchbell_kafka_connected", "1 if a broker answers."),
    ("watchbell_kafka_duplicate_events_total", "Events of topics that were read before and not taken twice."),
    ("watchbell_kafka_errors_total", "Errors that Kafka's client reported."),
    ("watchbell_kafka_events_total", "Events that were read from topics."),
    ("watchbell_kafka_lag_messages", "Messages of a topic that a reader has yet to read."),
    ("watchbell_kafka_lost_messages_total", "Messages that were gone before they were read."),
    ("watchbell_kafka_messages_total", "Messages that were read from topics."),
    ("watchbell_kafka_partitions_held", "Partitions of the log that are this process's share."),
    ("watchbell_kafka_rebalances_total", "Changes of this process's share of the partitions."),
    ("watchbell_kafka_rejected_events_total", "Events of topics that could not be read."),
    ("watchbell_kafka_replaced_partitions_total", "Partitions of topics that were made anew."),
    (
        "watchbell_kafka_reused_messages_total",
        "Messages that a reader did not decode, because another one had done so.",
    ),
    (
        "watchbell_kafka_unshared_messages_total",
        "Messages that each reader decodes for itself, because readers are too far apart.",
    ),
    ("watchbell_log_appended_records_total", "Records that were appended to the journal."),
    ("watchbell_log_backpressure_total", "Appends that were refused because too much waits to be written."),
    ("watchbell_log_bytes", "Bytes of the journal's segments."),
    ("watchbell_log_cache_bytes", "Memory in which the newest records are kept for readers."),
    ("watchbell_log_commit_seconds", "Time that a group commit of the journal took, fsync included."),
    ("watchbell_log_damage_total", "Damaged places found in the journal."),
    (
        "watchbell_log_deleted_segments_total",
        "Segments of the journal that were deleted because nobody needs them.",
    ),
    ("watchbell_log_failed", "1 if the journal's disk failed; restart after mending it."),
    ("watchbell_log_full", "1 if the journal has no room."),
    ("watchbell_log_lag_events", "Events that a reader of the log has yet to read."),
    ("watchbell_log_lost_records_total", "Records that are damaged and could not be read."),
    ("watchbell_log_missing_records_total", "Records that were read once and are no longer in the journal."),
    ("watchbell_log_oldest_offset", "Offset of the oldest record in the journal."),
    ("watchbell_log_refused_frames_total", "Appends that the disk did not take; the next is tried again."),
    ("watchbell_log_roots_rotated_out_total", "Roots of deleted segments that are no longer listed."),
    ("watchbell_log_written_bytes_total", "Bytes that were written to the journal."),
    ("watchbell_rule_matches_total", "Matches of a rule."),
    ("watchbell_rule_not_evaluable_events_total", "Events that lack the body which a rule needs."),
    ("watchbell_rules_detections_total", "Detections that rules made."),
    ("watchbell_rules_events_total", "Events that rules were evaluated on."),
    ("watchbell_rules_loaded", "Rules in force."),
    ("watchbell_rules_reloads_total", "Changes of the rule files that were taken or refused."),
    ("watchbell_rules_replans_total", "Times the rules were planned anew by what is rare in the traffic."),
    (
        "watchbell_rules_unreadable_events_total",
        "Events that are no JSON objects, on which no rule can match.",
    ),
    ("watchbell_search_deadline_total", "Searches that did not finish in time."),
    ("watchbell_search_refused_total", "Searches that were refused because too many run."),
    ("watchbell_search_seconds", "Time that a search took."),
    (
        "watchbell_search_too_many_values_total",
        "Searches with a pattern or range that matches too many values.",
    ),
    ("watchbell_sources_not_told_apart_total", "Deliveries of sources beyond the number that is told apart."),
    ("watchbell_stage_retries_total", "Failures of a stage that it tries again."),
    ("watchbell_syslog_dropped_total", "Syslog messages that were dropped; UDP knows no answer."),
    ("watchbell_tail_bytes_total", "Bytes that were read from followed files."),
    ("watchbell_tail_cut_lines_total", "Lines of followed files that were too long and were cut."),
    ("watchbell_tail_files", "Files that the patterns name, by what is done with them."),
    ("watchbell_tail_lag_bytes", "Bytes of followed files that were not read yet."),
    ("watchbell_tail_lines_total", "Lines that were read from followed files."),
    (
        "watchbell_tail_missing_files_total",
        "Followed files that went away before they were read to their end.",
    ),
    ("watchbell_tail_rotations_total", "Rotations of followed files."),
    (
        "watchbell_tail_truncations_total",
        "Followed files that became shorter and are read from their beginning.",
    ),
    ("watchbell_tail_waits_total", "Times the reader of files waited for the log."),
    ("watchbell_tls_expiry_timestamp_seconds", "When a certificate expires, in seconds since 1970."),
    ("watchbell_tls_reloads_total", "Changes of certificates that were taken or refused."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with(file!())
            {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_metric_is_described_and_no_other() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut files = Vec::new();
        for part in ["alerting", "event", "ingest", "query", "rules", "server"] {
            sources(&workspace.join(part).join("src"), &mut files);
        }
        let mut counted = BTreeSet::new();
        for file in files {
            let text = crate::files::read_text(&file, 1 << 20).unwrap();
            for literal in text.split("\"watchbell_").skip(1) {
                let name = literal.split('"').next().unwrap();
                if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
                    counted.insert(format!("watchbell_{name}"));
                }
            }
        }
        let described: BTreeSet<String> = DESCRIPTIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let missing: Vec<_> = counted.symmetric_difference(&described).collect();
        assert!(missing.is_empty(), "counted but not described, or the other way round: {missing:?}");
        assert!(DESCRIPTIONS.is_sorted());
    }
}
