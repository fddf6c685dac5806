//! Access logs of nginx and Apache: `ADDRESS IDENTITY USER [TIME] "METHOD TARGET VERSION" STATUS BYTES`, the common
//! format, with `"REFERRER" "AGENT"` the combined one, and what nginx's ingress controller appends to that. With
//! `HOST:PORT ` in front it is Apache's `vhost_combined`.

use watchbell_event::Timestamp;

use super::super::draft::Draft;
use super::super::{Fact, Field, time};
use super::scan::Cursor;

/// The time begins within the first bytes of a line, behind an address and a user's name.
const MAX_TIME_AT: usize = 512;
/// As in `21/Feb/2018:17:26:53 +0000`.
const TIME_BYTES: usize = 26;

pub(super) fn read<'a>(line: &'a str, draft: &mut Draft<'a>) -> Option<()> {
    let (head, time, rest) = around_time(line)?;
    // a user's name can hold spaces, so what is around it is taken off first
    let mut head = head.splitn(3, ' ');
    let (mut client, mut user) = (head.next()?, (head.next()?, head.next()?));
    let mut host = None;
    if user.0 != "-" && user.1.starts_with("- ") {
        host = Some(client);
        client = user.0;
        user = ("-", user.1[2..].trim_start());
    }
    let mut rest = Cursor(rest);
    let request = rest.quoted()?;
    let status = rest.word().filter(|status| is_status(status))?;
    let bytes = rest.word()?;
    draft.dataset = dataset(draft);
    draft.time = Some(time);
    draft.say_client(client);
    if let Some(host) = host {
        draft.say_text(Field::UrlDomain, host.split(':').next().unwrap_or(host));
    }
    draft.say_text(Field::UserName, user.1);
    say_request(request, draft);
    say_status(status, draft);
    draft.say_number(Field::HttpResponseBytes, bytes);
    if let Some(referrer) = rest.quoted() {
        draft.say_text(Field::HttpRequestReferrer, referrer);
        draft.say_text(Field::UserAgentOriginal, rest.quoted().unwrap_or_default());
        ingress(rest, draft);
    }
    Some(())
}

/// What stands before the time, the time, and what follows it. A user's name can hold brackets, but no bare quote.
fn around_time(line: &str) -> Option<(&str, Timestamp, &str)> {
    let head = &line.as_bytes()[..line.len().min(MAX_TIME_AT)];
    memchr::memchr_iter(b'[', head).take(8).find_map(|at| {
        let (time, rest) = line[at + 1..].split_at_checked(TIME_BYTES)?;
        let rest = rest.strip_prefix("] ").filter(|rest| rest.starts_with('"'))?;
        Some((line[..at].strip_suffix(' ')?, time::access(time)?, rest))
    })
}

/// `LENGTH SECONDS [UPSTREAM] [ALTERNATIVE] ADDRESS … ID` of nginx's ingress controller.
fn ingress<'a>(mut rest: Cursor<'a>, draft: &mut Draft<'a>) -> Option<()> {
    let length = rest.word().filter(|length| length.bytes().all(|byte| byte.is_ascii_digit()))?;
    let seconds: f64 = rest.word()?.parse().ok()?;
    rest.take("[")?;
    rest.until(b']')?;
    rest.take(" [")?;
    rest.until(b']')?;
    rest.take(" ")?;
    draft.dataset = "nginx.access";
    draft.say_number(Field::HttpRequestBytes, length);
    draft.say_text(Field::DestinationAddress, rest.word()?);
    let id = rest.0.rsplit(' ').next()?;
    draft.say_text(Field::HttpRequestId, id);
    if (0.0..1e9).contains(&seconds) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range above")]
        draft.say(Field::EventDuration, (seconds * 1e9) as u64);
    }
    Some(())
}

pub(super) fn is_status(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `METHOD TARGET VERSION`; whatever else a client sent is kept as the target.
pub(super) fn say_request<'a>(request: &'a str, draft: &mut Draft<'a>) {
    let spaces = memchr::memchr(b' ', request.as_bytes()).zip(memchr::memrchr(b' ', request.as_bytes()));
    let Some((first, last)) = spaces.filter(|(first, last)| first < last) else {
        return draft.say_text(Field::UrlOriginal, request);
    };
    let (method, target, version) = (&request[..first], &request[first + 1..last], &request[last + 1..]);
    draft.say_text(Field::HttpRequestMethod, method);
    draft.say_text(Field::HttpVersion, version.strip_prefix("HTTP/").unwrap_or(version));
    say_target(target, draft);
}

pub(super) fn say_target<'a>(target: &'a str, draft: &mut Draft<'a>) {
    draft.say_text(Field::UrlOriginal, target);
    let (path, query) = match memchr::memchr(b'?', target.as_bytes()) {
        Some(mark) => (&target[..mark], &target[mark + 1..]),
        None => (target, ""),
    };
    draft.say_text(Field::UrlPath, path);
    draft.say_text(Field::UrlQuery, query);
}

pub(super) fn say_status(status: &str, draft: &mut Draft<'_>) {
    let Ok(code) = status.parse::<u64>() else { return };
    draft.say(Field::HttpResponseStatusCode, code);
    draft.say(Field::EventCategory, "web");
    // Envoy writes 0 where there was no response
    draft.say(Field::EventOutcome, if (1..400).contains(&code) { "success" } else { "failure" });
}

/// By content the two are the same; what runs in the container tells them apart.
fn dataset(draft: &Draft<'_>) -> &'static str {
    let (mut is_nginx, mut is_apache) = (false, false);
    for field in [Field::ContainerName, Field::ContainerImageName, Field::ServiceName] {
        if let Some(Fact::Text(name)) = draft.fact(field) {
            is_nginx |= name.contains("nginx");
            is_apache |= name.contains("apache") || name.contains("httpd");
        }
    }
    match () {
        () if is_nginx => "nginx.access",
        () if is_apache => "apache.access",
        () => "http.access",
    }
}
