//! How many replicas have a message when it is answered.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::metadata::MetadataTopic;

use super::context::Context;
use super::state::Shared;
use super::{describe, error_of};
use crate::log::LogError;

const PATIENCE: Duration = Duration::from_secs(5);
/// Replicas that must have a message.
const ENOUGH: usize = 2;

/// Asks for the setting of a topic.
pub(super) struct Replicas {
    admin: AdminClient<Context>,
    runtime: tokio::runtime::Runtime,
}

impl Replicas {
    pub(super) fn new(shared: &Shared) -> Result<Self, LogError> {
        let context = Context::new(std::sync::Arc::clone(&shared.errors));
        let admin = shared.config.connection.client().create_with_context(context);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        Ok(Self {
            admin: admin.map_err(|error| error_of("make a Kafka client", &error))?,
            runtime: runtime.map_err(|error| LogError::Kafka {
                action: "start the thread that looks at topics",
                reason: error.to_string(),
            })?,
        })
    }

    /// Why a topic may answer with fewer replicas than are enough, if so.
    pub(super) fn too_few(&self, topic: &MetadataTopic) -> Option<String> {
        let name = topic.name();
        let short = topic.partitions().iter().find(|partition| partition.isr().len() < ENOUGH);
        if let Some(partition) = short {
            return Some(format!(
                "partition {} of {name} has {} replica in sync, {ENOUGH} are needed; start the other brokers, \
                 or set kafka.log.allow_single_replica: true",
                partition.id(),
                partition.isr().len()
            ));
        }
        match self.min_in_sync(name) {
            Ok(min) if min >= ENOUGH => None,
            Ok(min) => Some(format!(
                "{name} may answer when {min} replica has a message, {ENOUGH} are needed; set its \
                 min.insync.replicas to {ENOUGH}, or kafka.log.allow_single_replica: true"
            )),
            Err(reason) => Some(format!("min.insync.replicas of {name} is not known: {reason}")),
        }
    }

    fn min_in_sync(&self, topic: &str) -> Result<usize, String> {
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let asked = [ResourceSpecifier::Topic(topic)];
        let described = self.runtime.block_on(self.admin.describe_configs(&asked, &options));
        let described = described.map_err(|error| describe(&error))?;
        let resource = described.into_iter().next().ok_or("no answer")?.map_err(|code| code.to_string())?;
        let value = resource.get("min.insync.replicas").and_then(|entry| entry.value.as_deref());
        value.and_then(|value| value.parse().ok()).ok_or_else(|| "the answer lacks it".to_owned())
    }
}
