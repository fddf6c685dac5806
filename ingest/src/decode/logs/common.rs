use bytes::BytesMut;

use super::draft::{fill, normalize, write_fact, write_path};
use super::{Fact, Field};

/// What a transport knows of all records of one place, such as the lines of a file. As members of documents it is
/// written once.
#[derive(Clone, Debug, Default)]
pub struct CommonFacts {
    facts: Vec<(Field, Fact<'static>)>,
    /// A bit for each field among them.
    pub(super) filled: u64,
    /// Members of a document, each behind a comma.
    pub(super) members: BytesMut,
}

impl CommonFacts {
    /// Of a field given twice the first counts.
    pub fn new<'a>(facts: impl IntoIterator<Item = (Field, Fact<'a>)>) -> Self {
        let mut common = Self::default();
        for (field, fact) in facts {
            if !fill(&mut common.filled, field) {
                continue;
            }
            let mut fact = fact.into_owned();
            normalize(field, &mut fact);
            // a document's dataset depends on what its line is
            if field != Field::EventDataset {
                write_path(field, &mut common.members);
                write_fact(&fact, &mut common.members);
            }
            common.facts.push((field, fact));
        }
        common
    }

    pub(super) fn fact(&self, field: Field) -> Option<&Fact<'static>> {
        self.facts.iter().find(|(known, _)| *known == field).map(|(_, fact)| fact)
    }
}
