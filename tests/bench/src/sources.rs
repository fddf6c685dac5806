//! `bench sources`: how fast each route takes events in, in events and in megabytes, on all cores and per second of one;
//! beside what each is compared with in the same run.
//!
//! Machines that measure often have other work. So the rate of one core is that per second of processor time of the
//! server, all its threads together, and goals are ratios within one run.

mod broker;
mod detection;
mod encode;
mod lines;
mod network;
mod report;
mod tail;
mod topics;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use self::broker::{Broker, Contents};
use self::report::{Bare, Goal, Report};
use crate::output;
use crate::pipeline::server;

/// How to measure.
#[derive(Args)]
pub(crate) struct SourcesArgs {
    /// Only this route.
    #[arg(long, value_enum)]
    only: Option<Route>,
    /// How long events are sent on each route.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Events that each topic holds.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    messages: u64,
    /// HOST:PORT of a Kafka broker that may be filled; by default one is started as the tests against real servers do.
    #[arg(long, env = "WATCHBELL_BENCH_KAFKA", value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// Megabytes of log files.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    megabytes: u64,
    /// How many files they are in.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    files: u64,
    /// Print only the line of JSON.
    #[arg(long)]
    json: bool,
    /// Exit with 1 if a goal is missed.
    #[arg(long)]
    strict: bool,
    /// Where to keep data while measuring; the default is beside this program, on a real disk.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Route {
    /// EventLists to /ingest/audit.
    Audit,
    /// Objects of an agent to /ingest/logs.
    LogsNdjson,
    /// Lines to /ingest/logs.
    LogsPlain,
    /// Elasticsearch's _bulk.
    Bulk,
    /// OTLP over HTTP.
    OtlpHttp,
    /// OTLP over gRPC.
    OtlpGrpc,
    /// Syslog over TCP.
    Syslog,
    /// Fluentd's forward protocol.
    Forward,
    /// Files of containers.
    Files,
    /// A topic of audit events.
    KafkaAudit,
    /// A topic of log records.
    KafkaLogs,
    /// Detection alone from a topic of audit events.
    Detection,
}

const OVER_NETWORK: [Route; 8] = [
    Route::Audit,
    Route::LogsNdjson,
    Route::LogsPlain,
    Route::Bulk,
    Route::OtlpHttp,
    Route::OtlpGrpc,
    Route::Syslog,
    Route::Forward,
];

impl Route {
    fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit webhook",
            Self::LogsNdjson => "logs, NDJSON",
            Self::LogsPlain => "logs, plain lines",
            Self::Bulk => "_bulk",
            Self::OtlpHttp => "OTLP over HTTP",
            Self::OtlpGrpc => "OTLP over gRPC",
            Self::Syslog => "syslog over TCP",
            Self::Forward => "forward",
            Self::Files => "files",
            Self::KafkaAudit => "topic of audit events",
            Self::KafkaLogs => "topic of log records",
            Self::Detection => "detection from a topic",
        }
    }

    fn reads_topic(self) -> bool {
        matches!(self, Self::KafkaAudit | Self::KafkaLogs | Self::Detection)
    }
}

impl SourcesArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        output::warn_of_debug_build();
        let report = self.measure()?;
        output::report(|| report.table(self.only), &report.json(self.only), self.json)?;
        let met = report.goals(self.only).iter().all(Goal::is_met);
        Ok(if met || !self.strict { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn measure(&self) -> Result<Report> {
        let own = std::env::current_exe()?;
        let parent = self.dir.as_deref().or(own.parent()).context("this program lies in no directory")?;
        let dir = tempfile::Builder::new().prefix("bench-sources-").tempdir_in(parent)?;
        let mut report = Report::default();
        if self.wants(Route::Files) {
            report.tail = Some(tail::run(dir.path(), self.megabytes, self.files)?);
        }
        if self.only == Some(Route::Files) {
            return Ok(report);
        }
        let binary = server::binary()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            for route in OVER_NETWORK.into_iter().filter(|route| self.wants(*route)) {
                self.over_network(route, &binary, dir.path(), &mut report).await?;
            }
            if self.only.is_none_or(Route::reads_topic)
                && let Err(error) = self.over_topics(&binary, dir.path(), &mut report).await
            {
                report.no_broker = Some(format!("{error:#}"));
            }
            anyhow::Ok(())
        })?;
        Ok(report)
    }

    fn wants(&self, route: Route) -> bool {
        self.only.is_none_or(|only| only == route)
    }

    async fn over_network(&self, route: Route, binary: &Path, dir: &Path, report: &mut Report) -> Result<()> {
        output::note(&format!("{} for {} s", route.name(), self.seconds));
        report.rows.push(network::run(route, binary, dir, Duration::from_secs(self.seconds)).await?);
        Ok(())
    }

    async fn over_topics(&self, binary: &Path, dir: &Path, report: &mut Report) -> Result<()> {
        let broker = Broker::start(self.brokers.as_deref(), dir)?;
        if self.wants(Route::KafkaAudit) || self.wants(Route::Detection) {
            let topic = broker.fill(Contents::Audit, self.messages).await?;
            report.bare.push(count(&broker, &topic, Route::KafkaAudit)?);
            if self.wants(Route::KafkaAudit) {
                // what is compared takes turns, because a machine is not equally fast for long
                for _ in 0..2 {
                    report.rows.push(topics::run(binary, dir, &broker, &topic).await?);
                    self.over_network(Route::Audit, binary, dir, report).await?;
                }
            }
            if self.wants(Route::Detection) {
                report.detection = Some(detection::run(&broker, &topic, dir).await?);
            }
        }
        if self.wants(Route::KafkaLogs) {
            let topic = broker.fill(Contents::Lines, self.messages).await?;
            report.bare.push(count(&broker, &topic, Route::KafkaLogs)?);
            report.rows.push(topics::run(binary, dir, &broker, &topic).await?);
        }
        Ok(())
    }
}

fn count(broker: &Broker, topic: &broker::Topic, route: Route) -> Result<Bare> {
    let took = broker.count(topic)?;
    Ok(Bare { route, messages: topic.messages, bytes: topic.bytes, took })
}
