//! `serve --demo`: replays a scenario recorded from a real API server through the front door, its times
//! shifted to now, and shows the alerts as they fire.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::sync::watch;
use watchbell_event::Timestamp;

use crate::cli::output;
use crate::clock;

/// Ordinary work and then an attack, one audit event per line, redacted.
const SCENARIO: &str = include_str!("../demo/scenario.jsonl");
const CLUSTER: &str = "demo";
/// The replay takes about this long.
const REPLAY: Duration = Duration::from_secs(12);
const BATCHES: usize = 48;

/// Replays, shows alerts until all have settled, then tells what to try next.
pub(crate) async fn run(address: SocketAddr, token: String, stopping: watch::Receiver<bool>) {
    let demo = Demo { http: reqwest::Client::new(), base: format!("http://{address}"), token };
    output::note(&format!("watchbell is listening on {}; replaying a recorded scenario …\n", demo.base));
    let result = demo.play().await;
    if *stopping.borrow() {
        return;
    }
    match result {
        Ok(told) => output::note(&what_next(&demo.base, &told)),
        Err(error) => output::note(&format!("the demo stopped: {error:#} (the server goes on)")),
    }
}

/// How many alerts there are.
struct Told {
    new: usize,
    /// Those of an earlier demo, which have counted on.
    earlier: usize,
}

struct Demo {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Demo {
    async fn play(&self) -> Result<Told> {
        let events = shifted_to(clock::now())?;
        let mut shown = HashSet::new();
        // Alerts of an earlier demo in the same data directory are not news.
        for alert in self.alerts().await? {
            shown.insert(key(&alert));
        }
        let (earlier, batch) = (shown.len(), events.len().div_ceil(BATCHES).max(1));
        for batch in events.chunks(batch) {
            self.post(batch.join("\n")).await?;
            self.show_new(&mut shown).await?;
            tokio::time::sleep(REPLAY / u32::try_from(BATCHES).unwrap_or(1)).await;
        }
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            self.show_new(&mut shown).await?;
        }
        Ok(Told { new: shown.len() - earlier, earlier })
    }

    async fn post(&self, body: String) -> Result<()> {
        let url = format!("{}/ingest/audit/{CLUSTER}", self.base);
        let response = self.http.post(url).bearer_auth(&self.token).body(body).send().await?;
        let status = response.status();
        if !status.is_success() {
            bail!("{}", crate::cli::client::refusal(status, &response.bytes().await?));
        }
        Ok(())
    }

    async fn show_new(&self, shown: &mut HashSet<String>) -> Result<()> {
        let mut alerts = self.alerts().await?;
        alerts.reverse();
        for alert in alerts {
            if shown.insert(key(&alert)) {
                let text = |field: &str| output::printable(alert[field].as_str().unwrap_or_default());
                output::line(&format!(
                    "{:<13} {} — {}",
                    text("level").to_uppercase(),
                    text("title"),
                    text("first_summary")
                ))?;
            }
        }
        Ok(())
    }

    async fn alerts(&self) -> Result<Vec<Value>> {
        let url = format!("{}/api/v1/alerts?limit=1000&cluster={CLUSTER}", self.base);
        let response = self.http.get(url).bearer_auth(&self.token).send().await?.error_for_status()?;
        let mut answer: Value = serde_json::from_slice(&response.bytes().await?)?;
        match answer["alerts"].take() {
            Value::Array(alerts) => Ok(alerts),
            _ => bail!("the server did not list alerts"),
        }
    }
}

/// What tells one alert from another.
fn key(alert: &Value) -> String {
    alert["id"].as_str().unwrap_or_default().to_owned()
}

/// The scenario with its last event happening now and everything else as long before as it was.
fn shifted_to(now: Timestamp) -> Result<Vec<String>> {
    let mut events: Vec<Value> = SCENARIO
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .context("the scenario is damaged")?;
    let time = |event: &Value, field: &str| event[field].as_str()?.parse::<Timestamp>().ok();
    let last = events.iter().filter_map(|event| time(event, "stageTimestamp")).max().unwrap_or(now);
    let shift = now.micros_since(last);
    for event in &mut events {
        for field in ["requestReceivedTimestamp", "stageTimestamp"] {
            if let Some(time) = time(event, field) {
                event[field] = Value::String(time.plus_micros(shift).to_string());
            }
        }
    }
    Ok(events.iter().map(Value::to_string).collect())
}

fn what_next(base: &str, told: &Told) -> String {
    let alerts = match told {
        Told { new, earlier: 0 } => format!("{new} alerts."),
        Told { new, earlier } => format!(
            "{new} new alerts; the {earlier} that an earlier demo in this directory opened have gone on counting."
        ),
    };
    format!(
        "
{alerts} The server goes on; in a second terminal, from the same directory, try:

  ./target/release/watchbell alerts list
  ./target/release/watchbell alerts show ID
  ./target/release/watchbell search 'cluster:{CLUSTER} AND objectRef.resource:secrets'
  ./target/release/watchbell search 'responseStatus.code:403' --from now-1h
  curl -H \"Authorization: Bearer $(cat watchbell-data/admin.token)\" '{base}/api/v1/search?q=verb:delete'

Ctrl-C stops it."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenario_ends_now_and_keeps_its_order() {
        let now = clock::now();
        let events = shifted_to(now).unwrap();
        assert!(events.len() > 100);
        let times: Vec<Timestamp> = events
            .iter()
            .filter_map(|event| watchbell_event::audit::AuditEvent::parse(event.as_bytes()).claimed_time())
            .collect();
        assert_eq!(times.iter().max(), Some(&now));
    }
}
