//! From a predicate to a tantivy query that finds the same events.

use std::ops::Bound;
use std::sync::Arc;

use tantivy::query::{AllQuery, BooleanQuery, EmptyQuery, ExistsQuery, Occur, Query, RangeQuery};
use tantivy::schema::Field;
use tantivy::{DateTime, Term, f64_to_u64, i64_to_u64};
use watchbell_event::Outcome;
use watchbell_event::predicate::{
    Kind, Network, Number, Predicate, Scalar, Target, Test, field, indexed_text, time_span,
};

use super::lookup::{Filter, Guard, Lookup, PATH_END, Source};
use crate::schema::{Column, Columns, SOURCE_IP};

/// Compiles predicates for one schema and one search.
pub(super) struct Compiler<'a> {
    pub(super) columns: &'a Columns,
    pub(super) guard: &'a Arc<Guard>,
}

impl Compiler<'_> {
    pub(super) fn query(&self, predicate: &Predicate) -> Box<dyn Query> {
        match predicate {
            Predicate::All => Box::new(AllQuery),
            Predicate::And(parts) => self.all_of(parts),
            Predicate::Or(parts) => any(parts.iter().map(|part| self.query(part)).collect()),
            Predicate::Not(part) => but_not(Box::new(AllQuery), self.query(part)),
            Predicate::Field(name, test) => any(self.target(name.target(), test)),
            Predicate::Anywhere(test) => {
                let targets = field::SEARCHED_BY_DEFAULT.iter().map(|name| field::target(name));
                any(targets.flat_map(|target| self.target(target, test)).collect())
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

    /// Queries of which any finds the events whose field passes.
    fn target(&self, target: Target<'_>, test: &Test) -> Vec<Box<dyn Query>> {
        let one = |query: Box<dyn Query>| vec![query];
        match target {
            Target::Path(path) if *test == Test::Exists => one(self.exists(path)),
            Target::Path(path) => self.path(path, target.kind(), test),
            Target::Actor => one(self.actor(test)),
            Target::Outcome => one(self.outcome(test)),
            Target::SourceAddress if *test == Test::Exists => {
                one(Box::new(ExistsQuery::new(SOURCE_IP.to_owned(), false)))
            }
            Target::SourceAddress => one(self.lookup(addresses(self.columns.source_ip, test))),
            Target::Cluster => one(self.constant(self.columns.cluster, test)),
            Target::Format => one(self.constant(self.columns.source, test)),
            Target::Id => one(self.id(test)),
            Target::Time if *test == Test::Exists => one(Box::new(AllQuery)),
            Target::Time => one(time(self.columns.timestamp, test)),
        }
    }

    fn path(&self, path: &str, kind: Kind, test: &Test) -> Vec<Box<dyn Query>> {
        let columns = self.columns;
        let mut sources = rest(columns.rest, path, kind, test);
        let mut queries = Vec::new();
        match columns.of(path) {
            Column::Keyword(column) => sources.push(text(column, test)),
            Column::Code => sources.extend(code(columns.code, test)),
            Column::Addresses => {
                sources.extend(addresses(columns.source_ip, test));
                sources.extend(addresses(columns.forwarded_ips, test));
            }
            Column::Time(column) => queries.push(time(column, test)),
            Column::Rest => {}
        }
        queries.push(self.lookup(sources));
        queries
    }

    fn lookup(&self, sources: Vec<Source>) -> Box<dyn Query> {
        Box::new(Lookup::new(sources, self.guard))
    }

    fn exists(&self, path: &str) -> Box<dyn Query> {
        let filter = Filter::Path {
            whole: format!("\n{path}\n").into_bytes(),
            parent: format!("\n{path}.").into_bytes(),
        };
        self.lookup(vec![walk(self.columns.present, Vec::new(), None, filter)])
    }

    /// A column that every event has one text in.
    fn constant(&self, column: Field, test: &Test) -> Box<dyn Query> {
        if *test == Test::Exists { Box::new(AllQuery) } else { self.lookup(vec![text(column, test)]) }
    }

    fn id(&self, test: &Test) -> Box<dyn Query> {
        match test {
            Test::Exists => Box::new(AllQuery),
            Test::Is(id) => match id.parse::<watchbell_event::EventId>() {
                Ok(id) => self.lookup(vec![Source::Term(self.columns.id, id.prefix().to_be_bytes().to_vec())]),
                Err(_) => Box::new(EmptyQuery),
            },
            _ => Box::new(EmptyQuery),
        }
    }

    /// `impersonatedUser.username` if there is one, else `user.username`.
    fn actor(&self, test: &Test) -> Box<dyn Query> {
        let impersonated = Target::Path("impersonatedUser.username");
        let user = any(self.target(Target::Path("user.username"), test));
        let mut queries = self.target(impersonated, test);
        queries.push(but_not(user, self.exists("impersonatedUser.username")));
        any(queries)
    }

    fn outcome(&self, test: &Test) -> Box<dyn Query> {
        let wanted = |outcome: Outcome| test.accepts(Kind::General, &Scalar::Text(outcome.name().into()));
        let forbid = Test::Is("forbid".to_owned());
        let failure = || {
            let mut queries = self.path("annotations.authorization.k8s.io/decision", Kind::General, &forbid);
            let first = 400_u64.to_be_bytes().to_vec();
            queries.push(self.lookup(vec![walk(self.columns.code, first, None, Filter::Number(Test::Exists))]));
            any(queries)
        };
        let any_code =
            || self.lookup(vec![walk(self.columns.code, Vec::new(), None, Filter::Number(Test::Exists))]);
        let mut queries = Vec::new();
        if wanted(Outcome::Failure) {
            queries.push(failure());
        }
        if wanted(Outcome::Success) {
            queries.push(but_not(any_code(), failure()));
        }
        if wanted(Outcome::Unknown) {
            queries.push(but_not(Box::new(AllQuery), any(vec![failure(), any_code()])));
        }
        any(queries)
    }
}

fn any(mut queries: Vec<Box<dyn Query>>) -> Box<dyn Query> {
    match queries.len() {
        0 => Box::new(EmptyQuery),
        1 => queries.swap_remove(0),
        _ => Box::new(BooleanQuery::union(queries)),
    }
}

fn but_not(query: Box<dyn Query>, not: Box<dyn Query>) -> Box<dyn Query> {
    Box::new(BooleanQuery::new(vec![(Occur::Must, query), (Occur::MustNot, not)]))
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

