//! nginx's error log: `2026/01/31 08:15:00 [error] 123#456: *1 message, client: ADDRESS, server: …, request: "…"`.

use super::super::draft::Draft;
use super::super::{Field, level, time};
use super::access::say_request;
use super::scan::Cursor;

pub(super) fn read<'a>(line: &'a str, draft: &mut Draft<'a>) -> Option<()> {
    let (time, rest) = time::leading(line)?;
    let mut rest = Cursor(rest);
    rest.take(" [")?;
    let level = level::known(rest.until(b']')?)?;
    rest.take(" ")?;
    let pid =
        rest.until(b'#').filter(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()))?;
    rest.until(b':')?;
    draft.dataset = "nginx.error";
    draft.time = Some(time);
    draft.say(Field::LogLevel, level);
    draft.say_number(Field::ProcessPid, pid);
    password(rest.0, draft);
    Some(())
}

/// ` *1 user "NAME": password mismatch, client: …` and `user "NAME" was not found in "FILE", client: …`. Only of
/// these lines the client is read: a name for basic authentication holds no colon, so it cannot forge one.
fn password<'a>(message: &'a str, draft: &mut Draft<'a>) -> Option<()> {
    let (user, rest) = message.split_once(" user \"")?.1.split_once('"')?;
    let reason =
        [": password mismatch", " was not found in "].iter().find(|reason| rest.starts_with(**reason))?;
    let (_, after) = rest.split_once(", client: ")?;
    draft.say(Field::EventCategory, "authentication");
    draft.say(Field::EventAction, "http_basic_authentication");
    draft.say(Field::EventOutcome, "failure");
    draft.say(Field::EventReason, if reason.starts_with(':') { "password mismatch" } else { "unknown user" });
    draft.say_text(Field::UserName, user);
    draft.say_client(after.split(',').next().unwrap_or_default());
    let mut request = Cursor(after.split_once(", request: ")?.1);
    say_request(request.quoted()?, draft);
    Some(())
}
