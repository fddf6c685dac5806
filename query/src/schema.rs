//! What of an event is indexed, and how.
//!
//! | column | from | indexed | column store |
//! |---|---|---|---|
//! | timestamp | the envelope's event time | | microseconds |
//! | seq | a counter of this index: stable order, unique; finds the bytes of events that are kept packed | | yes |
//! | id | first 64 bits of the event's identity | yes | |
//! | received, stage_time | `requestReceivedTimestamp`, `stageTimestamp` | | microseconds |
//! | code | `responseStatus.code`, if a whole number | yes | yes |
//! | source_ip | the last of `sourceIPs`, if an address | yes | yes |
//! | forwarded_ips | the other `sourceIPs` that are addresses | yes | |
//! | line_ip | `source.ip`, if an address | yes | |
//! | message | text at `message`, by its words and their places | yes | |
//! | the columns of [`KEYWORDS`] | text at their path, whole | yes | some |
//! | rest | every other value, by path | yes, whole | |
//! | present | the paths that have a value | yes | |
//! | event | identity, source, cluster and the event's bytes, unless they are kept packed | | stored |
//!
//! A value that does not fit its column (a number as verb) is in `rest`, so nothing is lost to a search.
//! Text is cut as [`watchbell_event::predicate::indexed_text`] says.
//!
//! `present` holds the event's paths in their order, packed into texts of about [`PRESENT_CHUNK_BYTES`]
//! with a line break before and after each path. Events of one kind share these texts, so a question
//! whether a path exists looks at a few distinct texts, and an event costs one or two terms, not fifty.

use tantivy::schema::{
    DateOptions, DateTimePrecision, Field, IndexRecordOption, IpAddrOptions, JsonObjectOptions,
    NumericOptions, Schema, SchemaBuilder, TextFieldIndexing, TextOptions,
};

use crate::words;

/// Changes whenever the meaning of what is indexed changes. An index of an older version than [`OLDEST_VERSION`] must be
/// rebuilt.
pub(crate) const VERSION: u32 = 3;
/// Before version 3, no events were kept packed.
pub(crate) const OLDEST_VERSION: u32 = 2;
/// How long one text of `present` may grow before the next begins, in bytes.
pub(crate) const PRESENT_CHUNK_BYTES: usize = 512;

pub(crate) const TIMESTAMP: &str = "timestamp";
pub(crate) const SEQ: &str = "seq";
pub(crate) const SOURCE_IP: &str = "source_ip";

/// A column of whole texts.
pub(crate) struct Keyword {
    name: &'static str,
    path: &'static str,
    fast: bool,
}

const fn fast(name: &'static str, path: &'static str) -> Keyword {
    Keyword { name, path, fast: true }
}

const fn indexed(name: &'static str, path: &'static str) -> Keyword {
    Keyword { name, path, fast: false }
}

/// Columns with few distinct values are also in the column store, for aggregations.
pub(crate) const KEYWORDS: [Keyword; 16] = [
    fast("level", "level"),
    fast("stage", "stage"),
    fast("verb", "verb"),
    fast("user", "user.username"),
    fast("groups", "user.groups"),
    fast("impersonated_user", "impersonatedUser.username"),
    fast("user_agent", "userAgent"),
    fast("resource", "objectRef.resource"),
    fast("subresource", "objectRef.subresource"),
    fast("api_group", "objectRef.apiGroup"),
    fast("namespace", "objectRef.namespace"),
    fast("decision", "annotations.authorization.k8s.io/decision"),
    indexed("audit_id", "auditID"),
    indexed("request_uri", "requestURI"),
    indexed("name", "objectRef.name"),
    indexed("uid", "objectRef.uid"),
];

/// The columns of the schema.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    pub(crate) timestamp: Field,
    pub(crate) seq: Field,
    pub(crate) id: Field,
    pub(crate) received: Field,
    pub(crate) stage_time: Field,
    pub(crate) code: Field,
    pub(crate) source_ip: Field,
    pub(crate) forwarded_ips: Field,
    pub(crate) line_ip: Field,
    pub(crate) cluster: Field,
    pub(crate) source: Field,
    pub(crate) message: Field,
    keywords: [Field; KEYWORDS.len()],
    pub(crate) rest: Field,
    pub(crate) present: Field,
    pub(crate) event: Field,
}

/// Where the value at a path goes, if it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Keyword(Field),
    Code,
    Addresses,
    Address,
    Message,
    Time(Field),
    Rest,
}

impl Columns {
    /// The schema and its columns.
    pub(crate) fn build() -> (Schema, Self) {
        let mut builder = Schema::builder();
        let number = NumericOptions::default();
        let date = DateOptions::default().set_fast().set_precision(DateTimePrecision::Microseconds);
        let columns = Self {
            timestamp: builder.add_date_field(TIMESTAMP, date.clone()),
            seq: builder.add_u64_field(SEQ, number.clone().set_fast()),
            id: builder.add_u64_field("id", number.clone().set_indexed()),
            received: builder.add_date_field("received", date.clone()),
            stage_time: builder.add_date_field("stage_time", date),
            code: builder.add_u64_field("code", number.set_indexed().set_fast()),
            source_ip: builder
                .add_ip_addr_field(SOURCE_IP, IpAddrOptions::default().set_indexed().set_fast()),
            forwarded_ips: builder.add_ip_addr_field("forwarded_ips", IpAddrOptions::default().set_indexed()),
            line_ip: builder.add_ip_addr_field("line_ip", IpAddrOptions::default().set_indexed()),
            cluster: keyword(&mut builder, "cluster", true),
            source: keyword(&mut builder, "source", true),
            message: builder.add_text_field("message", TextOptions::default().set_indexing_options(words())),
            keywords: KEYWORDS.map(|column| keyword(&mut builder, column.name, column.fast)),
            rest: builder
                .add_json_field("rest", JsonObjectOptions::default().set_indexing_options(whole_text())),
            present: keyword(&mut builder, "present", false),
            event: builder.add_text_field("event", TextOptions::default().set_stored()),
        };
        (builder.build(), columns)
    }

    /// The column of a path.
    pub(crate) fn of(&self, path: &str) -> Column {
        if let Some(column) = KEYWORDS.iter().position(|keyword| keyword.path == path) {
            return Column::Keyword(self.keywords[column]);
        }
        match path {
            "responseStatus.code" => Column::Code,
            "sourceIPs" => Column::Addresses,
            "source.ip" => Column::Address,
            "message" => Column::Message,
            "requestReceivedTimestamp" => Column::Time(self.received),
            "stageTimestamp" => Column::Time(self.stage_time),
            _ => Column::Rest,
        }
    }
}

fn keyword(builder: &mut SchemaBuilder, name: &str, fast: bool) -> Field {
    let options = TextOptions::default().set_indexing_options(whole_text());
    builder.add_text_field(name, if fast { options.set_fast("raw") } else { options })
}

fn words() -> TextFieldIndexing {
    TextFieldIndexing::default()
        .set_tokenizer(words::NAME)
        .set_index_option(IndexRecordOption::WithFreqsAndPositions)
        .set_fieldnorms(false)
}

fn whole_text() -> TextFieldIndexing {
    TextFieldIndexing::default()
        .set_tokenizer("raw")
        .set_index_option(IndexRecordOption::Basic)
        .set_fieldnorms(false)
}
