//! In which order the keys of an object came before. Programs write them in the same order again and again, so the next
//! key is mostly known before it is read: then it is compared, and need not be searched for.

use crate::compile::NodeId;
use crate::json::Reader;

/// Most keys of one object, and longest key, in bytes, that are remembered.
const MAX_KEYS: usize = 48;
const MAX_KEY_BYTES: usize = 64;
/// Among so many keys the next one is looked for.
const LOOK_AHEAD: usize = 3;
/// After so many keys that were not expected, all is learned anew.
const MAX_SURPRISES: u32 = 256;

/// The keys of the objects at one place of the events, in the order in which they came.
#[derive(Default)]
pub(super) struct Script {
    keys: Vec<Line>,
    surprises: u32,
}

struct Line {
    /// As it is written: in quotes, with the colon.
    written: Box<str>,
    /// Where it leads.
    child: Option<NodeId>,
}

impl Script {
    /// Steps over the next key if it is one of those that are expected at `at`, which moves behind it, and says where it
    /// leads.
    #[inline]
    pub(super) fn follow(&mut self, at: &mut usize, reader: &mut Reader<'_>) -> Option<Option<NodeId>> {
        let expected = self.keys.get(*at..)?;
        let (skipped, line) =
            expected.iter().take(LOOK_AHEAD).enumerate().find(|(_, line)| reader.take(&line.written))?;
        *at += skipped + 1;
        self.surprises = 0;
        Some(line.child)
    }

    /// Learns a key that was read at `at`, which moves behind it.
    pub(super) fn learn(&mut self, at: &mut usize, written: &str, child: Option<NodeId>) {
        self.surprises += 1;
        if self.surprises > MAX_SURPRISES {
            *self = Self::default();
            *at = 0;
        }
        if let Some(known) = self.keys.iter().position(|line| *line.written == *written) {
            *at = known + 1;
        } else if self.keys.len() < MAX_KEYS && written.len() <= MAX_KEY_BYTES && written.ends_with("\":") {
            *at = (*at).min(self.keys.len());
            self.keys.insert(*at, Line { written: written.into(), child });
            *at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the keys of `{"a":,"b":}` and says which of them were expected.
    fn read(script: &mut Script, keys: &[&str]) -> String {
        let mut at = 0;
        let expected = keys.iter().map(|key| {
            let written = format!("{key:?}:");
            let child = u32::try_from(key.len()).ok();
            match script.follow(&mut at, &mut Reader::new(&written)) {
                Some(found) => {
                    assert_eq!(found, child, "{key}");
                    '+'
                }
                None => {
                    script.learn(&mut at, &written, child);
                    '-'
                }
            }
        });
        expected.collect()
    }

    #[test]
    fn what_came_before_is_expected_although_some_keys_are_left_out() {
        let mut script = Script::default();
        assert_eq!(read(&mut script, &["kind", "verb", "user", "x"]), "----");
        assert_eq!(read(&mut script, &["kind", "verb", "user", "x"]), "++++");
        assert_eq!(read(&mut script, &["kind", "x"]), "++");
        assert_eq!(read(&mut script, &["verb", "new", "user"]), "+-+");
        assert_eq!(read(&mut script, &["kind", "verb", "new", "user", "x"]), "+++++");
        assert_eq!(read(&mut script, &["x", "kind", "verb"]), "--+", "too many would be left out");
    }

    #[test]
    fn hostile_keys_take_little_memory_and_are_forgotten() {
        let mut script = Script::default();
        for number in 0..10_000 {
            read(&mut script, &[&format!("key-{number}"), &"x".repeat(100)]);
        }
        assert!(script.keys.len() <= MAX_KEYS);
        let ordinary = ["kind", "verb"];
        for _ in 0..MAX_SURPRISES {
            read(&mut script, &ordinary);
        }
        assert_eq!(read(&mut script, &ordinary), "++");
    }
}
