//! What syslog daemons put in front of a message in a file: `Jan 31 08:15:00 HOST TAG[PID]: message`, or with a
//! time as `2026-01-31T08:15:00.123456+00:00`, and perhaps `<PRIORITY>` before it.

use watchbell_event::Timestamp;

use super::super::draft::Draft;
use super::super::{Field, level, time};
use super::auth;
use super::scan::Cursor;

pub(super) fn read<'a>(line: &'a str, draft: &mut Draft<'a>) -> Option<()> {
    let header = Header::read(line, draft.received_at)?;
    draft.dataset = "syslog";
    draft.time = Some(header.time);
    if let Some(priority) = header.priority {
        draft.say(Field::LogSyslogPriority, u64::from(priority));
        draft.say(Field::LogSyslogFacilityCode, u64::from(priority / 8));
        draft.say(Field::LogSyslogSeverityCode, u64::from(priority % 8));
        draft.say(Field::LogLevel, level::of_syslog_severity(priority % 8));
    }
    draft.say(Field::HostName, header.host);
    draft.say(Field::ProcessName, header.tag);
    draft.say_number(Field::ProcessPid, header.pid);
    if auth::read(header.message, draft).is_none() && header.tag == "sudo" {
        auth::sudo(header.message, draft);
    }
    Some(())
}

/// The header and what follows it.
pub(in super::super) struct Header<'a> {
    pub(in super::super) priority: Option<u8>,
    pub(in super::super) time: Timestamp,
    pub(in super::super) host: &'a str,
    pub(in super::super) tag: &'a str,
    pub(in super::super) pid: &'a str,
    pub(in super::super) message: &'a str,
}

impl<'a> Header<'a> {
    pub(in super::super) fn read(line: &'a str, received_at: Timestamp) -> Option<Self> {
        let mut rest = Cursor(line);
        let mut priority = None;
        if rest.take("<").is_some() {
            let number: u8 = rest.until(b'>')?.parse().ok()?;
            priority = Some(number).filter(|priority| *priority < 192);
            priority?;
        }
        let (time, after, is_old) = match time::syslog(rest.0, received_at) {
            Some((time, after)) => (time, after, true),
            None => {
                let (time, after) = time::leading(rest.0)?;
                (time, after, false)
            }
        };
        rest.0 = after.strip_prefix(' ')?;
        let host = rest.word().filter(|host| !host.ends_with(':'))?;
        let tag_end = rest.0.bytes().take(64).position(|byte| matches!(byte, b':' | b'[' | b' '))?;
        let (tag, after) = rest.0.split_at(tag_end);
        rest.0 = after;
        let mut pid = "";
        if rest.take("[").is_some() {
            pid = rest.until(b']')?;
        }
        rest.take(":")?;
        // many other lines begin with a time as well
        let is_certain =
            is_old || priority.is_some() || pid.bytes().all(|byte| byte.is_ascii_digit()) && !pid.is_empty();
        let message = rest.0.strip_prefix(' ').unwrap_or(rest.0);
        (is_certain && !tag.is_empty()).then_some(Self { priority, time, host, tag, pid, message })
    }
}
