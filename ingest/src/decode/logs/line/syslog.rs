//! What syslog daemons put in front of a message in a file: `Jan 31 08:15:00 HOST TAG[PID]: message`, or with a
//! time as `2026-01-31T08:15:00.123456+00:00`, and perhaps `<PRIORITY>` before it. What a program itself hands to
//! `syslog()` names no host.

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
    let Tag { name, pid, message } = header.tag;
    draft.say_text(Field::HostName, header.host);
    draft.say(Field::ProcessName, name);
    draft.say_number(Field::ProcessPid, pid);
    if auth::read(message, draft).is_none() && name == "sudo" {
        auth::sudo(message, draft);
    }
    Some(())
}

/// The header and what follows it.
pub(in super::super) struct Header<'a> {
    pub(in super::super) priority: Option<u8>,
    pub(in super::super) time: Timestamp,
    /// Empty if none is named.
    pub(in super::super) host: &'a str,
    pub(in super::super) tag: Tag<'a>,
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
        // many other lines begin with a time as well
        if let Some(tag) = Tag::alone(rest.0) {
            let is_certain = priority.is_some() || is_old && tag.has_pid();
            return is_certain.then_some(Self { priority, time, host: "", tag });
        }
        let host = rest.word().filter(|host| !host.ends_with(':'))?;
        let tag = Tag::read(rest.0)?;
        let is_certain = is_old || priority.is_some() || tag.has_pid();
        is_certain.then_some(Self { priority, time, host, tag })
    }
}

/// `TAG[PID]: ` and what follows it.
#[derive(Clone, Copy)]
pub(in super::super) struct Tag<'a> {
    pub(in super::super) name: &'a str,
    /// Empty if none is named.
    pub(in super::super) pid: &'a str,
    pub(in super::super) message: &'a str,
}

impl<'a> Tag<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let end = text.bytes().take(64).position(|byte| matches!(byte, b':' | b'[' | b' '))?;
        let (name, after) = text.split_at(end);
        let mut rest = Cursor(after);
        let mut pid = "";
        if rest.take("[").is_some() {
            pid = rest.until(b']')?;
        }
        rest.take(":")?;
        let message = rest.0.strip_prefix(' ').unwrap_or(rest.0);
        (!name.is_empty()).then_some(Self { name, pid, message })
    }

    /// A tag with no host before it, where the first word could as well be one of the message. RFC 3164 (4.1.3) ends
    /// a tag of at most 32 letters and digits at the first other character, by which any message has one. Here a tag
    /// without the number of a process must end in `: ` and be a program's name, which is also how rsyslog and
    /// syslog-ng read `<13>backup: done`; they would take the level in `<13>error: disk full` for a program, too.
    pub(in super::super) fn alone(text: &'a str) -> Option<Self> {
        const MAX_NAME_BYTES: usize = 32;
        let tag = Self::read(text)?;
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./@+".contains(&byte);
        let is_name =
            tag.name.bytes().all(is_of_name) && tag.name.bytes().any(|byte| byte.is_ascii_alphabetic());
        let head = &text[..text.len() - tag.message.len()];
        let is_certain = tag.has_pid()
            || tag.pid.is_empty()
                && !head.contains('[')
                && tag.name.len() <= MAX_NAME_BYTES
                && level::known(tag.name).is_none()
                && (head.ends_with(' ') || tag.message.is_empty());
        (is_name && is_certain).then_some(tag)
    }

    fn has_pid(&self) -> bool {
        !self.pid.is_empty() && self.pid.bytes().all(|byte| byte.is_ascii_digit())
    }
}
