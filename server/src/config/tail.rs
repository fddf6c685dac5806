//! `files`: log files that are followed.

use std::sync::Arc;

use watchbell_ingest::decode::logs::LineFormat;
use watchbell_ingest::tail::{OwnPod, PathPattern, TailConfig, TailSource};

use super::reader::Section;
use super::size;

/// The name of this source in records.
const SOURCE: &str = "files";

/// Reads `files` and what belongs to it.
pub(super) fn read(root: &Section<'_>) -> TailConfig {
    let sources = root.sections("files").into_iter().filter_map(read_source).collect();
    TailConfig {
        sources,
        own: own_pod(),
        max_files: size(root.integer("files_max_open", 4_096, 1, 1_000_000)),
        ..TailConfig::default()
    }
}

fn read_source(section: Section<'_>) -> Option<TailSource> {
    let path = section.required_text("path");
    let cluster = section.required_text("cluster");
    if !cluster.is_empty()
        && let Err(error) = crate::tokens::check_cluster_name(&cluster)
    {
        section.errors().add(section.line_of("cluster"), format!("{}: {error}", section.name("cluster")));
    }
    let pattern = pattern(&section, "path", &path);
    let exclude = section.texts("exclude");
    let exclude = exclude.iter().filter_map(|text| self::pattern(&section, "exclude", text)).collect();
    let format = section.parsed("format", None, |name| match name {
        "json" => Ok(Some(LineFormat::Json)),
        "logfmt" => Ok(Some(LineFormat::Logfmt)),
        "klog" => Ok(Some(LineFormat::Klog)),
        "access" => Ok(Some(LineFormat::Access)),
        "envoy" => Ok(Some(LineFormat::Envoy)),
        "auth" => Ok(Some(LineFormat::Auth)),
        "text" => Ok(Some(LineFormat::Text)),
        _ => Err(format!("unknown format {name:?}; known: json, logfmt, klog, access, envoy, auth, text")),
    });
    section.finish();
    Some(TailSource {
        pattern: pattern?,
        exclude,
        source: SOURCE.into(),
        cluster: Arc::from(cluster),
        format,
    })
}

fn pattern(section: &Section<'_>, key: &'static str, text: &str) -> Option<PathPattern> {
    if text.is_empty() {
        return None;
    }
    let read = PathPattern::parse(text);
    if let Err(error) = &read {
        section.errors().add(section.line_of(key), format!("{} {text:?}: {error}", section.name(key)));
    }
    read.ok()
}

/// The pod of this process, as the downward API tells it.
fn own_pod() -> OwnPod {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    OwnPod { namespace: variable("POD_NAMESPACE"), name: variable("POD_NAME"), uid: variable("POD_UID") }
}
