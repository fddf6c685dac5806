//! How tantivy walks through an [`EventDocument`].

use std::ops::Range;
use std::slice::Iter;

use tantivy::DateTime;
use tantivy::schema::Field;
use tantivy::schema::document::{Document, ReferenceValue, ReferenceValueLeaf, Value as TantivyValue};
use watchbell_event::predicate::Number;

use crate::schema::Columns;

use super::{EventDocument, Parts, Value};

/// A value of a document, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct ValueRef<'a> {
    parts: &'a Parts,
    part: Part<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Part<'a> {
    One(&'a Value),
    Rest,
    Stored,
}

impl Document for EventDocument {
    type Value<'a> = ValueRef<'a>;
    type FieldsValuesIter<'a> = Values<'a>;

    fn iter_fields_and_values(&self) -> Values<'_> {
        let parts = self.parts();
        Values {
            columns: &self.columns,
            parts,
            next: 0,
            end: parts.values.len() + if self.kept { 1 } else { 2 },
        }
    }
}

/// All values of a document: those with a column, then the others as one object, then what is stored, if anything is.
#[derive(Debug)]
pub struct Values<'a> {
    columns: &'a Columns,
    parts: &'a Parts,
    next: usize,
    end: usize,
}

impl<'a> Iterator for Values<'a> {
    type Item = (Field, ValueRef<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (parts, at) = (self.parts, self.next);
        if at == self.end {
            return None;
        }
        self.next += 1;
        let (field, part) = match parts.values.get(at) {
            Some((field, value)) => (*field, Part::One(value)),
            None if at == parts.values.len() => (self.columns.rest, Part::Rest),
            None => (self.columns.event, Part::Stored),
        };
        Some((field, ValueRef { parts, part }))
    }
}

impl<'a> TantivyValue<'a> for ValueRef<'a> {
    type ArrayIter = std::iter::Empty<Self>;
    type ObjectIter = Rest<'a>;

    fn as_value(&self) -> ReferenceValue<'a, Self> {
        let parts = self.parts;
        ReferenceValue::Leaf(match self.part {
            Part::Rest => {
                return ReferenceValue::Object(Rest { parts, entries: parts.rest.iter() });
            }
            Part::Stored => ReferenceValueLeaf::Str(&parts.text[..parts.stored_len]),
            Part::One(value) => match value {
                Value::Text(place) => ReferenceValueLeaf::Str(&parts.text[place.clone()]),
                Value::Path(place) => ReferenceValueLeaf::Str(&parts.paths.text[place.clone()]),
                Value::Address(address) => ReferenceValueLeaf::IpAddr(*address),
                Value::Micros(micros) => ReferenceValueLeaf::Date(DateTime::from_timestamp_micros(*micros)),
                Value::Unsigned(number) | Value::Number(Number::U64(number)) => {
                    ReferenceValueLeaf::U64(*number)
                }
                Value::Number(Number::I64(number)) => ReferenceValueLeaf::I64(*number),
                Value::Number(Number::F64(number)) => ReferenceValueLeaf::F64(*number),
                Value::Bool(value) => ReferenceValueLeaf::Bool(*value),
            },
        })
    }
}

/// The values without a column, by path.
#[derive(Debug)]
pub struct Rest<'a> {
    parts: &'a Parts,
    entries: Iter<'a, (Range<usize>, Value)>,
}

impl<'a> Iterator for Rest<'a> {
    type Item = (&'a str, ValueRef<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (path, value) = self.entries.next()?;
        let value = ValueRef { parts: self.parts, part: Part::One(value) };
        Some((&self.parts.paths.text[path.clone()], value))
    }
}
