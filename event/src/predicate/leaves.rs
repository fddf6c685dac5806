//! The values of an event with their paths, found in one pass over its bytes.
//!
//! Bounds, so that no event costs more than it is worth; every event still keeps its bytes:
//!
//! - `metadata.managedFields` is skipped wherever it stands.
//! - `requestObject` and `responseObject` give at most [`MAX_VALUES_PER_BODY`] values each, everything else
//!   together at most [`MAX_VALUES_OUTSIDE`].
//! - Nothing is read below [`MAX_DEPTH`] levels, nor under a path longer than [`MAX_PATH_BYTES`] or with a
//!   NUL or a line break in it.
//!
//! Where a bound bites, the event has a value [`CUT`] that names the part that is incomplete, so such events
//! are found with `_exists_:_cut` or `_cut:responseObject`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Number, Scalar};

/// Most values read from one request or response body.
pub const MAX_VALUES_PER_BODY: usize = 1000;
/// Most values read outside the bodies.
pub const MAX_VALUES_OUTSIDE: usize = 1000;
/// Deepest level that is read.
pub const MAX_DEPTH: usize = 32;
/// Longest path, in bytes.
pub const MAX_PATH_BYTES: usize = 512;
/// The path that names the incomplete parts of an event: `requestObject`, `responseObject` or `event`.
pub const CUT: &str = "_cut";

/// As [`visit_text`], for bytes; bytes that are not UTF-8 give no value.
pub fn visit<'a>(bytes: &'a [u8], take: &mut impl FnMut(&str, Scalar<'a>)) {
    match std::str::from_utf8(bytes) {
        Ok(text) => visit_text(text, take),
        Err(_) => take(CUT, Scalar::Text(Cow::Borrowed(SECTIONS[OUTSIDE]))),
    }
}

/// Calls `take` with the path and value of every string, number, true and false in a JSON document, in its
/// order. Text that is not JSON gives the values before the fault.
pub fn visit_text<'a>(text: &'a str, take: &mut impl FnMut(&str, Scalar<'a>)) {
    let mut walk = Walk { path: String::with_capacity(128), section: OUTSIDE, budgets: BUDGETS, take };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let complete = Node { walk: &mut walk, depth: 0 }.deserialize(&mut deserializer).is_ok();
    let cut = walk.budgets.map(|budget| budget.cut);
    for (section, name) in SECTIONS.iter().enumerate() {
        if cut[section] || (section == OUTSIDE && !complete) {
            take(CUT, Scalar::Text(Cow::Borrowed(name)));
        }
    }
}

const OUTSIDE: usize = 0;
const SECTIONS: [&str; 3] = ["event", "requestObject", "responseObject"];
const BUDGETS: [Budget; 3] = [
    Budget { values_left: MAX_VALUES_OUTSIDE, cut: false },
    Budget { values_left: MAX_VALUES_PER_BODY, cut: false },
    Budget { values_left: MAX_VALUES_PER_BODY, cut: false },
];

#[derive(Clone, Copy)]
struct Budget {
    values_left: usize,
    cut: bool,
}

struct Walk<'t, F> {
    path: String,
    section: usize,
    budgets: [Budget; 3],
    take: &'t mut F,
}

impl<'de, F: FnMut(&str, Scalar<'de>)> Walk<'_, F> {
    fn value(&mut self, value: Scalar<'de>) {
        let budget = &mut self.budgets[self.section];
        if budget.values_left == 0 {
            budget.cut = true;
            return;
        }
        budget.values_left -= 1;
        (self.take)(&self.path, value);
    }

    fn readable(&self, depth: usize) -> bool {
        let budget = self.budgets[self.section];
        depth < MAX_DEPTH && self.path.len() <= MAX_PATH_BYTES && budget.values_left > 0
    }
}

/// Any value, standing at the walk's path.
struct Node<'w, 't, F> {
    walk: &'w mut Walk<'t, F>,
    depth: usize,
}

impl<'de, F: FnMut(&str, Scalar<'de>)> DeserializeSeed<'de> for Node<'_, '_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(&str, Scalar<'de>)> Visitor<'de> for Node<'_, '_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.walk.value(Scalar::Bool(value));
        Ok(())
    }
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.walk.value(Scalar::Number(value.into()));
        Ok(())
    }
    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.walk.value(Scalar::Number(value.into()));
        Ok(())
    }
    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.walk.value(Scalar::Number(Number::from(value)));
        Ok(())
    }
    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<(), E> {
        self.walk.value(Scalar::Text(Cow::Borrowed(value)));
        Ok(())
    }
    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.walk.value(Scalar::Text(Cow::Owned(value.to_owned())));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        loop {
            if !self.walk.readable(self.depth) {
                while members.next_element::<IgnoredAny>()?.is_some() {
                    self.walk.budgets[self.walk.section].cut = true;
                }
                return Ok(());
            }
            let member = Node { walk: &mut *self.walk, depth: self.depth + 1 };
            if members.next_element_seed(member)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let parent = self.walk.path.len();
        while entries.next_key_seed(Key { path: &mut self.walk.path })?.is_some() {
            let key = self.walk.path[parent..].trim_start_matches('.');
            if self.depth == 0 {
                self.walk.section = SECTIONS.iter().position(|name| *name == key).unwrap_or(OUTSIDE);
            }
            if key == "managedFields" && under_metadata(&self.walk.path[..parent]) {
                entries.next_value::<IgnoredAny>()?;
            } else if !self.walk.readable(self.depth) || self.walk.path[parent..].contains(['\0', '\n']) {
                self.walk.budgets[self.walk.section].cut = true;
                entries.next_value::<IgnoredAny>()?;
            } else {
                entries.next_value_seed(Node { walk: &mut *self.walk, depth: self.depth + 1 })?;
            }
            self.walk.path.truncate(parent);
        }
        Ok(())
    }
}

fn under_metadata(path: &str) -> bool {
    path == "metadata" || path.ends_with(".metadata")
}

/// An object's key, appended to the path.
struct Key<'p> {
    path: &'p mut String,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E>(self, key: &str) -> Result<(), E> {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(key);
        Ok(())
    }
}
