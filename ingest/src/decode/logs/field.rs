/// A field of the Elastic Common Schema that log documents use, sorted by path. In a document its whole path is one
/// key (`"source.ip"`), so that it never gets into the way of an agent's or a line's member `source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is named like its path")]
pub enum Field {
    ContainerId,
    ContainerImageName,
    ContainerName,
    DestinationAddress,
    EventAction,
    EventCategory,
    EventDataset,
    EventDuration,
    EventOutcome,
    EventReason,
    HostName,
    HttpRequestBytes,
    HttpRequestId,
    HttpRequestMethod,
    HttpRequestReferrer,
    HttpResponseBytes,
    HttpResponseStatusCode,
    HttpVersion,
    LogFilePath,
    LogIostream,
    LogLevel,
    LogLogger,
    LogOffset,
    LogOriginFileLine,
    LogOriginFileName,
    LogSyslogAppname,
    LogSyslogFacilityCode,
    LogSyslogMsgid,
    LogSyslogPriority,
    LogSyslogProcid,
    LogSyslogSeverityCode,
    NetworkForwardedIp,
    OrchestratorNamespace,
    OrchestratorResourceId,
    OrchestratorResourceName,
    OrchestratorResourceType,
    ProcessCommandLine,
    ProcessName,
    ProcessPid,
    ProcessThreadId,
    ServiceName,
    SourceAddress,
    SourceIp,
    SourcePort,
    SpanId,
    TraceId,
    UrlDomain,
    UrlOriginal,
    UrlPath,
    UrlQuery,
    UserEffectiveName,
    UserId,
    UserName,
    UserAgentOriginal,
}

impl Field {
    /// The path, such as `source.ip`.
    #[must_use]
    pub fn path(self) -> &'static str {
        PATHS[self as usize].0
    }

    /// The field with this path.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        let index = PATHS.binary_search_by(|(known, _)| known.cmp(&path)).ok()?;
        Some(PATHS[index].1)
    }

    /// True if it says where a line comes from, which only a transport or an agent can know.
    pub(super) fn is_origin(self) -> bool {
        matches!(
            self,
            Self::ContainerId
                | Self::ContainerImageName
                | Self::ContainerName
                | Self::EventDataset
                | Self::HostName
                | Self::LogFilePath
                | Self::LogIostream
                | Self::LogOffset
                | Self::OrchestratorNamespace
                | Self::OrchestratorResourceId
                | Self::OrchestratorResourceName
                | Self::OrchestratorResourceType
        )
    }

    /// True for `source`, the first key of `source.ip`, and the like.
    pub(super) fn is_first_key(key: &str) -> bool {
        matches!(
            key,
            "container"
                | "destination"
                | "event"
                | "host"
                | "http"
                | "log"
                | "network"
                | "orchestrator"
                | "process"
                | "service"
                | "source"
                | "span"
                | "trace"
                | "url"
                | "user"
                | "user_agent"
        )
    }
}

const PATHS: [(&str, Field); 54] = [
    ("container.id", Field::ContainerId),
    ("container.image.name", Field::ContainerImageName),
    ("container.name", Field::ContainerName),
    ("destination.address", Field::DestinationAddress),
    ("event.action", Field::EventAction),
    ("event.category", Field::EventCategory),
    ("event.dataset", Field::EventDataset),
    ("event.duration", Field::EventDuration),
    ("event.outcome", Field::EventOutcome),
    ("event.reason", Field::EventReason),
    ("host.name", Field::HostName),
    ("http.request.bytes", Field::HttpRequestBytes),
    ("http.request.id", Field::HttpRequestId),
    ("http.request.method", Field::HttpRequestMethod),
    ("http.request.referrer", Field::HttpRequestReferrer),
    ("http.response.bytes", Field::HttpResponseBytes),
    ("http.response.status_code", Field::HttpResponseStatusCode),
    ("http.version", Field::HttpVersion),
    ("log.file.path", Field::LogFilePath),
    ("log.iostream", Field::LogIostream),
    ("log.level", Field::LogLevel),
    ("log.logger", Field::LogLogger),
    ("log.offset", Field::LogOffset),
    ("log.origin.file.line", Field::LogOriginFileLine),
    ("log.origin.file.name", Field::LogOriginFileName),
    ("log.syslog.appname", Field::LogSyslogAppname),
    ("log.syslog.facility.code", Field::LogSyslogFacilityCode),
    ("log.syslog.msgid", Field::LogSyslogMsgid),
    ("log.syslog.priority", Field::LogSyslogPriority),
    ("log.syslog.procid", Field::LogSyslogProcid),
    ("log.syslog.severity.code", Field::LogSyslogSeverityCode),
    ("network.forwarded_ip", Field::NetworkForwardedIp),
    ("orchestrator.namespace", Field::OrchestratorNamespace),
    ("orchestrator.resource.id", Field::OrchestratorResourceId),
    ("orchestrator.resource.name", Field::OrchestratorResourceName),
    ("orchestrator.resource.type", Field::OrchestratorResourceType),
    ("process.command_line", Field::ProcessCommandLine),
    ("process.name", Field::ProcessName),
    ("process.pid", Field::ProcessPid),
    ("process.thread.id", Field::ProcessThreadId),
    ("service.name", Field::ServiceName),
    ("source.address", Field::SourceAddress),
    ("source.ip", Field::SourceIp),
    ("source.port", Field::SourcePort),
    ("span.id", Field::SpanId),
    ("trace.id", Field::TraceId),
    ("url.domain", Field::UrlDomain),
    ("url.original", Field::UrlOriginal),
    ("url.path", Field::UrlPath),
    ("url.query", Field::UrlQuery),
    ("user.effective.name", Field::UserEffectiveName),
    ("user.id", Field::UserId),
    ("user.name", Field::UserName),
    ("user_agent.original", Field::UserAgentOriginal),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_by_its_path() {
        assert!(PATHS.is_sorted_by_key(|(path, _)| *path));
        for (path, field) in PATHS {
            assert_eq!((field.path(), Field::from_path(path)), (path, Some(field)));
            assert!(Field::is_first_key(path.split('.').next().unwrap()), "{path}");
        }
        assert_eq!(Field::from_path("source"), None);
    }
}
