//! Where to look further: addresses of this server.

use serde::Serialize;
use url::form_urlencoded;
use watchbell_event::Timestamp;

use crate::Alert;

/// How far before and behind an alert's events the search around it reaches, in microseconds.
const AROUND_MICROS: i64 = 10 * 60 * 1_000_000;

/// Where to look at one alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Links {
    /// The alert itself.
    pub alert: String,
    /// The events that its rule matched meanwhile.
    pub events: String,
    /// What else the actor did, and what else happened to the object, from ten minutes before to ten minutes after.
    pub around: String,
}

impl Links {
    /// The links of an alert. `external_url` is where people reach this server.
    #[must_use]
    pub fn new(alert: &Alert, external_url: &str) -> Self {
        let events = format!("rule:{}", quoted(&alert.rule_id));
        let (first, last) = (alert.first_event_time, alert.last_event_time);
        Self {
            alert: format!("{}/{}", list(external_url), alert.id),
            events: search(external_url, &events, first, last.plus_micros(1)),
            around: search(
                external_url,
                &around(alert),
                first.plus_micros(-AROUND_MICROS),
                last.plus_micros(AROUND_MICROS),
            ),
        }
    }
}

/// Where to look at all alerts.
pub(crate) fn list(external_url: &str) -> String {
    format!("{}/api/v1/alerts", external_url.trim_end_matches('/'))
}

/// What the actor did (or whoever came from the address, if nobody was named), and what happened to the object.
fn around(alert: &Alert) -> String {
    let cluster = term("cluster", &alert.cluster);
    let actor = first_of(alert, &["user.name", "user.username", "source.ip", "sourceIPs"]);
    let object: Vec<String> =
        ["orchestrator.resource.type", "orchestrator.namespace", "orchestrator.resource.name"]
            .into_iter()
            .filter_map(|name| first_of(alert, &[name]))
            .collect();
    // A kind alone is no object.
    let object = label(alert, "orchestrator.resource.name").map(|_| format!("({})", object.join(" AND ")));
    let mut either: Vec<String> = actor.into_iter().chain(object).collect();
    if either.is_empty() {
        let others = alert.labels.iter().filter(|(name, _)| !name.starts_with("correlation."));
        let others: Vec<String> = others.filter_map(|(name, _)| first_of(alert, &[name])).collect();
        either.extend((!others.is_empty()).then(|| others.join(" AND ")));
    }
    match either.as_slice() {
        [] => cluster,
        [only] => format!("{cluster} AND {only}"),
        several => format!("{cluster} AND ({})", several.join(" OR ")),
    }
}

fn first_of(alert: &Alert, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| Some(term(name, label(alert, name)?)))
}

/// A label as it stands in events: what was cut, or is a list, would find nothing.
fn label<'a>(alert: &'a Alert, name: &str) -> Option<&'a str> {
    let (_, value) = alert.labels.iter().find(|(label, _)| label == name)?;
    (!value.is_empty() && !value.ends_with('…') && !value.starts_with('[')).then_some(value)
}

fn term(field: &str, value: &str) -> String {
    format!("{field}:{}", quoted(value))
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

fn search(external_url: &str, query: &str, from: Timestamp, to: Timestamp) -> String {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("q", query)
        .append_pair("from", &from.to_string())
        .append_pair("to", &to.to_string())
        .finish();
    format!("{}/api/v1/search?{query}", external_url.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::notice;

    #[test]
    fn a_link_quotes_what_it_searches_for() {
        let mut alert = notice(1).alert;
        alert.rule_id = "a \"b\"&c".to_owned();
        let links = Links::new(&alert, "https://watch.example/");
        let expect = "https://watch.example/api/v1/search?q=rule%3A%22a+%5C%22b%5C%22%26c%22&from=";
        assert!(links.events.starts_with(expect), "{}", links.events);
        assert_eq!(links.alert, format!("https://watch.example/api/v1/alerts/{}", alert.id));
        let times = "&from=2026-02-02T02%3A30%3A00.000000Z&to=2026-02-02T02%3A51%3A00.000000Z";
        assert!(links.around.ends_with(times), "{}", links.around);
    }

    #[test]
    fn the_search_around_an_alert_is_about_its_actor_and_its_object() {
        let check = |labels: &[(&str, &str)], expect: &str| {
            let mut alert = notice(1).alert;
            alert.labels =
                labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert_eq!(around(&alert), expect, "{labels:?}");
        };
        let object = [
            ("orchestrator.namespace", "shop"),
            ("orchestrator.resource.name", "web"),
            ("orchestrator.resource.type", "pods"),
        ];
        let eve = [("source.ip", "10.0.0.7"), ("user.name", "eve\\")];
        check(
            &[&object[..], &eve].concat(),
            "cluster:\"prod\" AND (user.name:\"eve\\\\\" OR (orchestrator.resource.type:\"pods\" AND \
             orchestrator.namespace:\"shop\" AND orchestrator.resource.name:\"web\"))",
        );
        check(&eve, "cluster:\"prod\" AND user.name:\"eve\\\\\"");
        check(&[eve[0], object[0]], "cluster:\"prod\" AND source.ip:\"10.0.0.7\"");
        check(
            &[("correlation.reached", "12"), ("objectRef.resource", "pods"), ("x", "cut…")],
            "cluster:\"prod\" AND objectRef.resource:\"pods\"",
        );
        check(&[], "cluster:\"prod\"");
    }
}
