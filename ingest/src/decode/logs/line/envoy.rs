//! Envoy's default access log, and the one that Istio configures:
//!
//! ```text
//! [TIME] "METHOD PATH PROTOCOL" CODE FLAGS RECEIVED SENT DURATION UPSTREAM_TIME
//!     "FORWARDED_FOR" "AGENT" "ID" "AUTHORITY" "UPSTREAM"
//! [TIME] "METHOD PATH PROTOCOL" CODE FLAGS DETAILS TERMINATION "FAILURE" RECEIVED SENT DURATION UPSTREAM_TIME
//!     "FORWARDED_FOR" "AGENT" "ID" "AUTHORITY" "UPSTREAM" CLUSTER LOCAL DOWNSTREAM_LOCAL DOWNSTREAM SNI ROUTE
//! ```

use super::super::draft::Draft;
use super::super::{Field, time};
use super::access::{is_status, say_status, say_target};
use super::scan::Cursor;

pub(super) fn read<'a>(line: &'a str, draft: &mut Draft<'a>) -> Option<()> {
    let mut rest = Cursor(line);
    rest.take("[")?;
    let (time, end) = time::leading(rest.until(b']')?)?;
    rest.take(" ")?;
    let request = rest.quoted().filter(|_| end.is_empty())?;
    let code = rest.word().filter(|code| is_status(code) || *code == "0")?;
    let flags = rest.word()?;
    let details = (!is_number(rest)).then(|| Some((rest.word()?, rest.word()?, rest.quoted()?)));
    let details = match details {
        Some(read) => Some(read?),
        None => None,
    };
    let (received, sent, duration, _upstream_time) = (rest.word()?, rest.word()?, rest.word()?, rest.word()?);
    let quoted = [(); 5].map(|()| rest.quoted().unwrap_or_default());
    let [forwarded_for, agent, id, authority, upstream] = quoted;
    draft.dataset = if details.is_some() { "istio.access" } else { "envoy.access" };
    draft.time = Some(time);
    say_request(request, draft);
    say_status(code, draft);
    let reason = details.map(|details| details.0).filter(|reason| *reason != "-");
    draft.say_text(Field::EventReason, reason.unwrap_or(flags));
    draft.say_number(Field::HttpRequestBytes, received);
    draft.say_number(Field::HttpResponseBytes, sent);
    if let Some(nanos) = duration.parse::<u64>().ok().and_then(|millis| millis.checked_mul(1_000_000)) {
        draft.say(Field::EventDuration, nanos);
    }
    // the client can have written all of it
    draft.say_text(Field::NetworkForwardedIp, forwarded_for);
    draft.say_text(Field::UserAgentOriginal, agent);
    draft.say_text(Field::HttpRequestId, id);
    draft.say_text(Field::UrlDomain, authority);
    draft.say_text(Field::DestinationAddress, upstream);
    if details.is_some() {
        let downstream = rest.0.split(' ').nth(3).unwrap_or_default();
        draft.say_client(downstream);
    }
    Some(())
}

/// True if a number comes next: the default format has no details.
fn is_number(mut rest: Cursor<'_>) -> bool {
    rest.word().is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_digit()))
}

fn say_request<'a>(request: &'a str, draft: &mut Draft<'a>) {
    // of a connection that is no HTTP there is `- - -`
    if request != "- - -" {
        let mut parts = request.splitn(2, ' ');
        let (method, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (target, version) = rest.rsplit_once(' ').unwrap_or((rest, ""));
        draft.say_text(Field::HttpRequestMethod, method);
        draft.say_text(Field::HttpVersion, version.strip_prefix("HTTP/").unwrap_or(version));
        say_target(target, draft);
    }
}
