//! One batch: every file in its turn, then the records that nothing followed.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Map;
use watchbell_event::Timestamp;

use super::discover::Unreadable;
use super::file::{About, Followed, TURN_LINES};
use super::lines::Joined;
use super::{TailBatch, TailConfig};
use crate::decode::Origin;
use crate::decode::logs::{Field, LogDecoder, LogRecord, MOST_FACTS, Sequence};
use crate::redact::Redactor;

/// What reading one batch takes.
pub(super) struct Round<'a> {
    config: &'a TailConfig,
    /// Per source.
    origins: &'a [Origin],
    decoders: Vec<LogDecoder<'a>>,
    buffer: &'a mut [u8],
    now: Timestamp,
    pub(super) batch: TailBatch,
}

impl<'a> Round<'a> {
    pub(super) fn new(
        config: &'a TailConfig,
        origins: &'a [Origin],
        buffer: &'a mut [u8],
        redactor: &'a Redactor,
        now: Timestamp,
    ) -> Self {
        let decoders = origins.iter().map(|origin| LogDecoder::new(origin, &config.logs, redactor)).collect();
        Self { config, origins, decoders, buffer, now, batch: TailBatch::default() }
    }

    /// Every file in its turn, until the batch is full or nothing is left. Returns whose turn is next.
    pub(super) fn take_turns(
        &mut self,
        files: &mut [Followed],
        first: usize,
        unreadable: &mut Unreadable,
    ) -> usize {
        let count = files.len();
        let mut waiting: Vec<usize> = (first..first + count).map(|turn| turn % count).collect();
        while !waiting.is_empty() {
            let mut again = Vec::new();
            for index in waiting {
                if self.is_full() {
                    self.batch.more = true;
                    return index;
                }
                let file = &mut files[index];
                match self.turn(file) {
                    Ok(()) if file.has_more() => again.push(index),
                    Ok(()) => {}
                    Err(error) => unreadable.report(&file.about.path, &error),
                }
            }
            waiting = again;
        }
        0
    }

    /// Ends records that have waited long enough, and files that are gone.
    pub(super) fn end_waiting(&mut self, files: &mut [Followed], unreadable: &mut Unreadable) {
        let open_bytes: usize = files.iter().map(Followed::open_bytes).sum();
        let hurry = open_bytes > self.config.open_bytes;
        for file in files {
            match self.rest(file, hurry) {
                Ok(false) => {}
                Ok(true) => {
                    file.note_cuts();
                    self.batch.keep_state_first = true;
                }
                Err(error) => unreadable.report(&file.about.path, &error),
            }
        }
    }

    fn is_full(&self) -> bool {
        self.batch.bytes >= self.config.batch_bytes as u64 || self.batch.envelopes.len() as u64 >= TURN_LINES
    }

    fn turn(&mut self, file: &mut Followed) -> std::io::Result<()> {
        let (lines, now) = (&self.config.lines, self.now);
        let mut writer = Writer::new(file, self.origins, &mut self.decoders, self.config, &mut self.batch);
        let look = file.look(now, &mut |joined| writer.write(&joined))?;
        if look.truncated {
            self.batch.keep_state_first = true;
            metrics::counter!("watchbell_tail_truncations_total").increment(1);
        }
        if look.data {
            let mut writer =
                Writer::new(file, self.origins, &mut self.decoders, self.config, &mut self.batch);
            let turn = file.read(self.buffer, lines, now, &mut |joined| writer.write(&joined))?;
            self.batch.bytes += turn.bytes;
            let cluster = Arc::clone(&self.origins[file.about.source].cluster);
            *self.batch.cluster_bytes.entry(cluster).or_default() += turn.bytes;
            metrics::counter!("watchbell_tail_bytes_total").increment(turn.bytes);
            metrics::counter!("watchbell_tail_lines_total").increment(turn.lines);
            metrics::counter!("watchbell_tail_cut_lines_total").increment(turn.cut_lines);
        }
        Ok(())
    }

    fn rest(&mut self, file: &mut Followed, hurry: bool) -> std::io::Result<bool> {
        let (lines, now) = (&self.config.lines, self.now);
        let mut writer = Writer::new(file, self.origins, &mut self.decoders, self.config, &mut self.batch);
        let mut out = |joined: Joined<'_>| writer.write(&joined);
        if hurry {
            Ok(file.hurry(lines, now, &mut out))
        } else {
            file.rest(self.buffer, lines, now, &mut out)
        }
    }
}

/// Makes envelopes of the records of one file.
struct Writer<'w, 'a> {
    about: Arc<About>,
    sequence: Option<Sequence>,
    known_before: u64,
    config: &'w TailConfig,
    decoder: &'w mut LogDecoder<'a>,
    batch: &'w mut TailBatch,
}

impl<'w, 'a> Writer<'w, 'a> {
    fn new(
        file: &Followed,
        origins: &[Origin],
        decoders: &'w mut [LogDecoder<'a>],
        config: &'w TailConfig,
        batch: &'w mut TailBatch,
    ) -> Self {
        let about = Arc::clone(&file.about);
        let sequence = file.identity().map(|identity| Sequence::file(&origins[about.source], &identity));
        let decoder = &mut decoders[about.source];
        Self { about, sequence, known_before: file.known_before, config, decoder, batch }
    }

    fn write(&mut self, joined: &Joined<'_>) {
        // a file has an identity before it has lines
        let Some(sequence) = &self.sequence else { return };
        let mut known = Vec::with_capacity(MOST_FACTS);
        known.push((Field::LogOffset, joined.offset.into()));
        known.extend(joined.stream.map(|stream| (Field::LogIostream, stream.into())));
        let record = LogRecord {
            time: joined.time,
            line: Cow::Borrowed(joined.text),
            cut: joined.cut,
            common: Some(&self.about.facts),
            known,
            attributes: Map::new(),
            format: self.config.sources[self.about.source].format,
            identity: sequence.id(joined.offset),
        };
        self.batch.envelopes.push(self.decoder.decode(record));
        self.batch.may_be_known |= joined.offset < self.known_before;
    }
}
