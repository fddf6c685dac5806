//! The requests seen lately: one request alerts once per rule, though it appears at several stages. They are looked
//! up in memory; the table, which is only added to at its end, brings them back after a restart.

use std::collections::{HashMap, VecDeque};

use rusqlite::Connection;
use watchbell_event::EventId;

use super::sql_int;

/// The requests of the latest commits, at most as many as the window holds.
#[derive(Debug)]
pub(super) struct Requests {
    seqs: HashMap<EventId, i64>,
    order: VecDeque<(i64, EventId)>,
    next: i64,
    window: i64,
}

/// Requests of a commit that is not done.
#[derive(Debug, Default)]
pub(super) struct Staged {
    seqs: HashMap<EventId, i64>,
    order: Vec<EventId>,
}

impl Requests {
    /// Reads back what the database holds.
    pub(super) fn load(connection: &Connection, window: u64) -> rusqlite::Result<Self> {
        let mut requests =
            Self { seqs: HashMap::new(), order: VecDeque::new(), next: 1, window: sql_int(window) };
        let mut read = connection.prepare("SELECT seq, key FROM request ORDER BY seq")?;
        let rows = read.query_map([], |row| Ok((row.get(0)?, EventId(row.get(1)?))))?;
        for row in rows {
            let (seq, key) = row?;
            requests.add(seq, key);
        }
        requests.forget();
        Ok(requests)
    }

    /// Stages a request, unless it is known. Says whether it is.
    pub(super) fn is_known(&self, key: EventId, staged: &mut Staged) -> bool {
        let next = self.next + sql_int(staged.order.len() as u64);
        let seen = staged.seqs.get(&key).or_else(|| self.seqs.get(&key));
        if seen.is_some_and(|seq| *seq >= next.saturating_sub(self.window)) {
            return true;
        }
        staged.seqs.insert(key, next);
        staged.order.push(key);
        false
    }

    /// Writes what is staged, and deletes what the window no longer holds.
    pub(super) fn write(&self, staged: &Staged, connection: &Connection) -> rusqlite::Result<()> {
        let mut insert = connection.prepare_cached("INSERT INTO request VALUES (?1, ?2)")?;
        let mut seq = self.next;
        for key in &staged.order {
            insert.execute((seq, key.0))?;
            seq += 1;
        }
        let oldest = seq.saturating_sub(self.window);
        connection.prepare_cached("DELETE FROM request WHERE seq < ?1")?.execute([oldest])?;
        Ok(())
    }

    /// What was staged is durable.
    pub(super) fn committed(&mut self, staged: Staged) {
        for key in staged.order {
            self.add(self.next, key);
        }
        self.forget();
    }

    fn add(&mut self, seq: i64, key: EventId) {
        self.seqs.insert(key, seq);
        self.order.push_back((seq, key));
        self.next = self.next.max(seq + 1);
    }

    fn forget(&mut self) {
        let oldest = self.next.saturating_sub(self.window);
        while let Some((seq, key)) = self.order.pop_front_if(|(seq, _)| *seq < oldest) {
            // The same request may have come again since.
            if self.seqs.get(&key) == Some(&seq) {
                self.seqs.remove(&key);
            }
        }
    }
}
