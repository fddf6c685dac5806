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
    LogSourceAddress,
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
        let head = self.head();
        &head[2..head.len() - 2]
    }

    /// How a member of this name begins behind another one: `,"source.ip":`.
    pub(super) fn head(self) -> &'static str {
        HEADS[self as usize].0
    }

    /// The field with this path.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        // names of a single key are frequent, and no field has one
        memchr::memchr(b'.', path.as_bytes())?;
        let index = HEADS.binary_search_by(|(_, field)| field.path().cmp(path)).ok()?;
        Some(HEADS[index].1)
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
                | Self::LogSourceAddress
                | Self::OrchestratorNamespace
                | Self::OrchestratorResourceId
                | Self::OrchestratorResourceName
                | Self::OrchestratorResourceType
        )
    }

    /// The first key of a path.
    pub(super) fn first_key(path: &str) -> &str {
        let end = path.bytes().position(|byte| byte == b'.').unwrap_or(path.len());
        &path[..end]
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

const HEADS: [(&str, Field); 55] = [
    (r#","container.id":"#, Field::ContainerId),
    (r#","container.image.name":"#, Field::ContainerImageName),
    (r#","container.name":"#, Field::ContainerName),
    (r#","destination.address":"#, Field::DestinationAddress),
    (r#","event.action":"#, Field::EventAction),
    (r#","event.category":"#, Field::EventCategory),
    (r#","event.dataset":"#, Field::EventDataset),
    (r#","event.duration":"#, Field::EventDuration),
    (r#","event.outcome":"#, Field::EventOutcome),
    (r#","event.reason":"#, Field::EventReason),
    (r#","host.name":"#, Field::HostName),
    (r#","http.request.bytes":"#, Field::HttpRequestBytes),
    (r#","http.request.id":"#, Field::HttpRequestId),
    (r#","http.request.method":"#, Field::HttpRequestMethod),
    (r#","http.request.referrer":"#, Field::HttpRequestReferrer),
    (r#","http.response.bytes":"#, Field::HttpResponseBytes),
    (r#","http.response.status_code":"#, Field::HttpResponseStatusCode),
    (r#","http.version":"#, Field::HttpVersion),
    (r#","log.file.path":"#, Field::LogFilePath),
    (r#","log.iostream":"#, Field::LogIostream),
    (r#","log.level":"#, Field::LogLevel),
    (r#","log.logger":"#, Field::LogLogger),
    (r#","log.offset":"#, Field::LogOffset),
    (r#","log.origin.file.line":"#, Field::LogOriginFileLine),
    (r#","log.origin.file.name":"#, Field::LogOriginFileName),
    (r#","log.source.address":"#, Field::LogSourceAddress),
    (r#","log.syslog.appname":"#, Field::LogSyslogAppname),
    (r#","log.syslog.facility.code":"#, Field::LogSyslogFacilityCode),
    (r#","log.syslog.msgid":"#, Field::LogSyslogMsgid),
    (r#","log.syslog.priority":"#, Field::LogSyslogPriority),
    (r#","log.syslog.procid":"#, Field::LogSyslogProcid),
    (r#","log.syslog.severity.code":"#, Field::LogSyslogSeverityCode),
    (r#","network.forwarded_ip":"#, Field::NetworkForwardedIp),
    (r#","orchestrator.namespace":"#, Field::OrchestratorNamespace),
    (r#","orchestrator.resource.id":"#, Field::OrchestratorResourceId),
    (r#","orchestrator.resource.name":"#, Field::OrchestratorResourceName),
    (r#","orchestrator.resource.type":"#, Field::OrchestratorResourceType),
    (r#","process.command_line":"#, Field::ProcessCommandLine),
    (r#","process.name":"#, Field::ProcessName),
    (r#","process.pid":"#, Field::ProcessPid),
    (r#","process.thread.id":"#, Field::ProcessThreadId),
    (r#","service.name":"#, Field::ServiceName),
    (r#","source.address":"#, Field::SourceAddress),
    (r#","source.ip":"#, Field::SourceIp),
    (r#","source.port":"#, Field::SourcePort),
    (r#","span.id":"#, Field::SpanId),
    (r#","trace.id":"#, Field::TraceId),
    (r#","url.domain":"#, Field::UrlDomain),
    (r#","url.original":"#, Field::UrlOriginal),
    (r#","url.path":"#, Field::UrlPath),
    (r#","url.query":"#, Field::UrlQuery),
    (r#","user.effective.name":"#, Field::UserEffectiveName),
    (r#","user.id":"#, Field::UserId),
    (r#","user.name":"#, Field::UserName),
    (r#","user_agent.original":"#, Field::UserAgentOriginal),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_by_its_path() {
        assert!(HEADS.is_sorted_by_key(|(_, field)| field.path()));
        for (index, (head, field)) in HEADS.into_iter().enumerate() {
            let path = field.path();
            assert_eq!((field as usize, Field::from_path(path)), (index, Some(field)));
            assert_eq!(head, format!(",{path:?}:"));
            assert!(Field::is_first_key(Field::first_key(path)), "{path}");
        }
        assert_eq!(Field::from_path("source"), None);
    }
}
