//! From a predicate to a tantivy query that finds the same events.

use std::ops::Bound;
use std::sync::Arc;

use tantivy::query::{
    AllQuery, BooleanQuery, EmptyQuery, ExistsQuery, Occur, PhraseQuery, Query, RangeQuery,
};
use tantivy::schema::Field;
use tantivy::{DateTime, Term, f64_to_u64, i64_to_u64};
use watchbell_event::predicate::{
    Kind, Network, Number, Predicate, Scalar, Target, Test, field, indexed_text, test_of_word, time_span,
    words,
};
use watchbell_event::{EventId, Outcome};

use super::lookup::{Filter, Guard, Lookup, PATH_END, Source};
use crate::schema::{Column, Columns, SOURCE_IP};

/// What log documents say themselves.
const OUTCOME: &str = "event.outcome";
const OWN_ADDRESS: &str = "source.ip";

/// Compiles predicates for one schema and one search.
pub(super) struct Compiler<'a> {
    pub(super) columns: &'a Columns,
    pub(super) guard: &'a Arc<Guard>,
}

/// One of several ways to find an event.
enum Way {
    /// The event is listed here.
    Listed(Source),
    /// This finds it.
    Query(Box<dyn Query>),
}

impl From<Source> for Way {
    fn from(source: Source) -> Self {
        Self::Listed(source)
    }
}

impl Compiler<'_> {
    pub(super) fn query(&self, predicate: &Predicate) -> Box<dyn Query> {
        match predicate {
            Predicate::All => Box::new(AllQuery),
            Predicate::And(parts) => self.all_of(parts),
            Predicate::Not(part) => but_not(Box::new(AllQuery), self.query(part)),
            Predicate::Or(_) | Predicate::Field(..) | Predicate::Anywhere(_) => {
                self.any(self.ways(predicate))
            }
        }
    }

    fn all_of(&self, parts: &[Predicate]) -> Box<dyn Query> {
        let mut clauses: Vec<(Occur, Box<dyn Query>)> = parts
            .iter()
            .map(|part| match part {
                Predicate::Not(part) => (Occur::MustNot, self.query(part)),
                part => (Occur::Must, self.query(part)),
            })
            .collect();
        if clauses.iter().all(|(occur, _)| *occur == Occur::MustNot) {
            clauses.push((Occur::Must, Box::new(AllQuery)));
        }
        Box::new(BooleanQuery::new(clauses))
    }

    /// Everything that is only listed somewhere becomes one lookup, so that a thousand values cost little.
    fn any(&self, ways: Vec<Way>) -> Box<dyn Query> {
        let (mut sources, mut queries) = (Vec::new(), Vec::new());
        for way in ways {
            match way {
                Way::Listed(source) => sources.push(source),
                Way::Query(query) => queries.push(query),
            }
        }
        if !sources.is_empty() {
            queries.push(Box::new(Lookup::new(sources, self.guard)));
        }
        match queries.len() {
            0 => Box::new(EmptyQuery),
            1 => queries.swap_remove(0),
            _ => Box::new(BooleanQuery::union(queries)),
        }
    }

    fn ways(&self, predicate: &Predicate) -> Vec<Way> {
        match predicate {
            Predicate::Or(parts) => parts.iter().flat_map(|part| self.ways(part)).collect(),
            Predicate::Field(field, test) => self.target(field.target(), test),
            Predicate::Anywhere(test) => field::searched_by_default(test)
                .flat_map(|name| self.target(field::target(name), test))
                .collect(),
            other => vec![Way::Query(self.query(other))],
        }
    }

    fn target(&self, target: Target<'_>, test: &Test) -> Vec<Way> {
        let columns = self.columns;
        let exists = *test == Test::Exists;
        match target {
            Target::Path(path) if exists => vec![present(columns, path).into()],
            Target::Path(path) => self.path(path, target.kind(), test),
            Target::Shared(audit, own) => {
                [audit, own].into_iter().flat_map(|path| self.target(Target::Path(path), test)).collect()
            }
            Target::Actor => self.actor(test),
            Target::Outcome => {
                let derived = self.any(self.outcome(test));
                let own = self.any(vec![present(columns, OUTCOME).into()]);
                let mut ways = self.target(Target::Path(OUTCOME), test);
                ways.push(Way::Query(but_not(derived, own)));
                ways
            }
            Target::SourceAddress if exists => {
                let derived = Way::Query(Box::new(ExistsQuery::new(SOURCE_IP.to_owned(), false)));
                vec![derived, present(columns, OWN_ADDRESS).into()]
            }
            Target::SourceAddress => {
                let mut ways = listed(addresses(columns.source_ip, test));
                ways.extend(self.path(OWN_ADDRESS, Kind::Address, test));
                ways
            }
            Target::Cluster | Target::Format | Target::Id | Target::Time if exists => {
                vec![Way::Query(Box::new(AllQuery))]
            }
            Target::Cluster => vec![text(columns.cluster, test).into()],
            Target::Format => vec![text(columns.source, test).into()],
            Target::Id => listed(id(columns.id, test)),
            Target::Time => vec![Way::Query(time(columns.timestamp, test))],
        }
    }

    fn path(&self, path: &str, kind: Kind, test: &Test) -> Vec<Way> {
        let columns = self.columns;
        let mut ways = listed(rest(columns.rest, path, kind, test));
        match columns.of(path) {
            Column::Keyword(column) => ways.push(text(column, test).into()),
            Column::Code => ways.extend(listed(code(columns.code, test))),
            Column::Address => ways.extend(listed(addresses(columns.line_ip, test))),
            Column::Message => ways.push(self.words(test)),
            Column::Addresses => {
                ways.extend(listed(addresses(columns.source_ip, test)));
                ways.extend(listed(addresses(columns.forwarded_ips, test)));
            }
            Column::Time(column) => ways.push(Way::Query(time(column, test))),
            Column::Rest => {}
        }
        ways
    }

    /// `impersonatedUser.username` if there is one, else `user.username`.
    fn actor(&self, test: &Test) -> Vec<Way> {
        const IMPERSONATED: &str = "impersonatedUser.username";
        let user = self.any(self.target(Target::Path("user.username"), test));
        let impersonated = self.any(vec![present(self.columns, IMPERSONATED).into()]);
        let mut ways = self.target(Target::Path(IMPERSONATED), test);
        ways.push(Way::Query(but_not(user, impersonated)));
        ways.extend(self.target(Target::Path("user.name"), test));
        ways
    }

    /// Messages, by their words.
    fn words(&self, test: &Test) -> Way {
        let column = self.columns.message;
        let Test::Is(wanted) = test else {
            let test = test_of_word(test);
            return walk(column, beginning(&test).into(), ending(&test), Filter::Text(test)).into();
        };
        let mut words = words(wanted);
        match words.len() {
            0 => Way::Query(Box::new(EmptyQuery)),
            1 => Source::Term(column, words.swap_remove(0).into_bytes()).into(),
            _ => {
                let terms = words.iter().map(|word| Term::from_field_text(column, word)).collect();
                Way::Query(Box::new(PhraseQuery::new(terms)))
            }
        }
    }

    fn outcome(&self, test: &Test) -> Vec<Way> {
        let wanted = |outcome: Outcome| test.accepts(Kind::General, &Scalar::Text(outcome.name().into()));
        let code_from = |first: u64| {
            let filter = Filter::Number(Test::Exists);
            Way::from(walk(self.columns.code, first.to_be_bytes().to_vec(), None, filter))
        };
        let failure = || {
            let forbid = Test::Is("forbid".to_owned());
            let mut ways = self.path("annotations.authorization.k8s.io/decision", Kind::General, &forbid);
            ways.push(code_from(400));
            ways
        };
        let mut ways = Vec::new();
        if wanted(Outcome::Failure) {
            ways.extend(failure());
        }
        if wanted(Outcome::Success) {
            ways.push(Way::Query(but_not(self.any(vec![code_from(0)]), self.any(failure()))));
        }
        if wanted(Outcome::Unknown) {
            let known = failure().into_iter().chain([code_from(0)]).collect();
            ways.push(Way::Query(but_not(Box::new(AllQuery), self.any(known))));
        }
        ways
    }
}

fn listed(sources: impl IntoIterator<Item = Source>) -> Vec<Way> {
    sources.into_iter().map(Way::Listed).collect()
}

fn but_not(query: Box<dyn Query>, not: Box<dyn Query>) -> Box<dyn Query> {
    Box::new(BooleanQuery::new(vec![(Occur::Must, query), (Occur::MustNot, not)]))
}

/// Events in which the path, or one below it, has a value.
fn present(columns: &Columns, path: &str) -> Source {
    let filter = Filter::Path { whole: format!("\n{path}\n"), parent: format!("\n{path}.") };
    walk(columns.present, Vec::new(), None, filter)
}

fn id(column: Field, test: &Test) -> Option<Source> {
    let Test::Is(id) = test else { return None };
    let id = id.parse::<EventId>().ok()?;
    Some(Source::Term(column, id.prefix().to_be_bytes().to_vec()))
}

fn walk(field: Field, first: Vec<u8>, end: Option<Vec<u8>>, filter: Filter) -> Source {
    Source::Walk { field, first, end, filter }
}

/// Texts of a column.
fn text(column: Field, test: &Test) -> Source {
    match test {
        Test::Is(wanted) => Source::Term(column, indexed_text(wanted).into_owned().into_bytes()),
        _ => walk(column, beginning(test).into(), ending(test), Filter::Text(test.clone())),
    }
}

/// What every passing text begins with, or the least passing text.
fn beginning(test: &Test) -> &[u8] {
    match test {
        Test::Like(wildcard) => wildcard.prefix().as_bytes(),
        Test::Within(range) => match range.texts() {
            Some((Bound::Included(text) | Bound::Excluded(text), _)) => text.as_bytes(),
            _ => b"",
        },
        _ => b"",
    }
}

/// The first text after all that begin like the passing ones. No UTF-8 text has a byte of ones.
fn ending(test: &Test) -> Option<Vec<u8>> {
    match test {
        Test::Like(wildcard) if !wildcard.prefix().is_empty() => {
            Some([wildcard.prefix().as_bytes(), &[0xff]].concat())
        }
        _ => None,
    }
}

fn code(column: Field, test: &Test) -> Option<Source> {
    match test {
        Test::Is(text) => {
            let code = match Number::parse(text)? {
                Number::I64(code) => u64::try_from(code).ok()?,
                Number::U64(code) => code,
                Number::F64(_) => return None,
            };
            Some(Source::Term(column, code.to_be_bytes().to_vec()))
        }
        _ => Some(walk(column, Vec::new(), None, Filter::Number(test.clone()))),
    }
}

fn addresses(column: Field, test: &Test) -> Vec<Source> {
    let Test::Is(text) = test else {
        return vec![walk(column, Vec::new(), None, Filter::Address(test.clone()))];
    };
    let Some(Network { first, last }) = Network::parse(text) else { return Vec::new() };
    let key = first.to_be_bytes().to_vec();
    if first == last {
        return vec![Source::Term(column, key)];
    }
    let end = last.checked_add(1).map(|end| end.to_be_bytes().to_vec());
    vec![walk(column, key, end, Filter::Address(test.clone()))]
}

/// Values of a path in `rest`.
fn rest(column: Field, path: &str, kind: Kind, test: &Test) -> Vec<Source> {
    let mut key = path.as_bytes().to_vec();
    key.push(PATH_END);
    let with = |bytes: &[u8]| [key.as_slice(), bytes].concat();
    if let Test::Is(wanted) = test {
        let mut sources = vec![Source::Term(column, with(&[b"s", indexed_text(wanted).as_bytes()].concat()))];
        let number = Number::parse(wanted).map(|number| match number {
            Number::I64(number) => (b'i', i64_to_u64(number)),
            Number::U64(number) => (b'u', number),
            Number::F64(number) => (b'f', f64_to_u64(number)),
        });
        let value = match wanted.as_str() {
            "true" => Some((b'o', 1)),
            "false" => Some((b'o', 0)),
            _ => number,
        };
        let term = |(kind, bits): (u8, u64)| with(&[&[kind][..], &bits.to_be_bytes()].concat());
        sources.extend(value.map(|value| Source::Term(column, term(value))));
        return sources;
    }
    let filter = Filter::Rest(test.clone(), kind, key.len());
    let texts_end = ending(test).map_or_else(|| with(b"t"), |end| with(&[b"s", end.as_slice()].concat()));
    vec![
        walk(column, key.clone(), Some(with(b"s")), filter.clone()),
        walk(column, with(&[b"s", beginning(test)].concat()), Some(texts_end), filter.clone()),
        walk(column, with(b"t"), Some(with(&[0xff])), filter),
    ]
}

/// Moments of a column.
fn time(column: Field, test: &Test) -> Box<dyn Query> {
    let (lower, upper) = match test {
        Test::Is(text) => match time_span(text) {
            Some((first, last)) => (Bound::Included(first), Bound::Included(last)),
            None => return Box::new(EmptyQuery),
        },
        Test::Within(range) => match range.micros() {
            Some(bounds) => bounds,
            None => return Box::new(EmptyQuery),
        },
        Test::Exists | Test::Like(_) | Test::Matches(_) => return Box::new(EmptyQuery),
    };
    let term = |micros: i64| Term::from_field_date(column, DateTime::from_timestamp_micros(micros));
    Box::new(RangeQuery::new(lower.map(term), upper.map(term)))
}
