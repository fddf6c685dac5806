//! What sshd, PAM and sudo say about who came in and who did not.
//!
//! Names of users that do not exist are whatever the client sends, spaces and ` from 10.0.0.1 port 22` included.
//! In lines about failures the address is therefore read from the end.

use super::super::Field;
use super::super::draft::Draft;

const SUCCESS: &str = "success";
const FAILURE: &str = "failure";

/// Reads a message without a syslog header.
pub(super) fn read<'a>(message: &'a str, draft: &mut Draft<'a>) -> Option<()> {
    if message.starts_with("pam_") || message.starts_with("PAM ") {
        return pam(message, draft);
    }
    // of repeated messages a syslog daemon keeps one: `message repeated 2 times: [ Failed password …]`
    if let Some(repeated) = message.strip_prefix("message repeated ") {
        let (_, inner) = repeated.split_once(" times: [ ")?;
        return sshd(inner.strip_suffix(']')?, draft);
    }
    sshd(message, draft)
}

fn sshd<'a>(message: &'a str, draft: &mut Draft<'a>) -> Option<()> {
    let (first, rest) = message.split_once(' ')?;
    match first {
        "Failed" => attempt(rest, FAILURE, draft),
        "Accepted" => attempt(rest, SUCCESS, draft),
        "Invalid" => {
            let (user, from) = rest.strip_prefix("user ")?.rsplit_once("from ")?;
            let from = client(from)?;
            say(draft, "ssh_invalid_user", Some(FAILURE), Some("invalid user"));
            draft.say_text(Field::UserName, user.trim_end_matches(' '));
            say_client(from, draft);
            Some(())
        }
        "error:" => {
            let rest = rest.strip_prefix("maximum authentication attempts exceeded for ")?;
            let (user, from) = rest.rsplit_once(" from ")?;
            let from = client(from)?;
            say(draft, "ssh_attempts_exceeded", Some(FAILURE), Some("too many attempts"));
            say_user(user, draft);
            say_client(from, draft);
            Some(())
        }
        "User" => {
            let (user, from) = rest.rsplit_once(" not allowed because ")?.0.rsplit_once(" from ")?;
            say(draft, "ssh_refused", Some(FAILURE), Some("user not allowed"));
            draft.say_text(Field::UserName, user);
            draft.say_client(from);
            Some(())
        }
        "Disconnected" | "Connection" => left(rest, draft),
        _ => None,
    }
}

/// `METHOD for [invalid user ]USER from ADDRESS port PORT ssh2[: KEY]`
fn attempt<'a>(rest: &'a str, outcome: &'static str, draft: &mut Draft<'a>) -> Option<()> {
    let (method, rest) = rest.split_once(" for ")?;
    if method.is_empty() || method.contains(' ') {
        return None;
    }
    // who is let in has a name that this machine knows; what follows the address then is the key's
    let split = if outcome == SUCCESS { rest.split_once(" from ") } else { rest.rsplit_once(" from ") };
    let (user, from) = split?;
    let from = client(from)?;
    let reason = user.starts_with("invalid user ").then_some("invalid user");
    say(draft, "ssh_login", Some(outcome), reason);
    say_user(user, draft);
    say_client(from, draft);
    Some(())
}

/// `from [invalid |authenticating ]user USER ADDRESS port PORT`, `closed by …`, `reset by …`
fn left<'a>(rest: &'a str, draft: &mut Draft<'a>) -> Option<()> {
    let rest = ["from ", "closed by ", "reset by "].iter().find_map(|prefix| rest.strip_prefix(prefix))?;
    let (before, port) = rest.rsplit_once(" port ")?;
    let (user, address) = before.rsplit_once(' ').unwrap_or(("", before));
    address.parse::<std::net::IpAddr>().ok()?;
    say(draft, "ssh_disconnect", None, None);
    let user =
        ["invalid user ", "authenticating user ", "user "].iter().find_map(|kind| user.strip_prefix(kind));
    draft.say_text(Field::UserName, user.unwrap_or_default());
    say_client((address, port.split(' ').next().unwrap_or_default()), draft);
    Some(())
}

/// `ADDRESS port PORT …`
fn client(from: &str) -> Option<(&str, &str)> {
    let mut words = from.split(' ');
    let address = words.next()?;
    let is_port = words.next().is_none_or(|word| word == "port");
    is_port.then(|| (address, words.next().unwrap_or_default()))
}

fn say<'a>(draft: &mut Draft<'a>, action: &'a str, outcome: Option<&'a str>, reason: Option<&'a str>) {
    draft.dataset = "sshd";
    draft.say(Field::EventCategory, "authentication");
    draft.say(Field::EventAction, action);
    draft.say_text(Field::EventOutcome, outcome.unwrap_or_default());
    draft.say_text(Field::EventReason, reason.unwrap_or_default());
}

fn say_user<'a>(user: &'a str, draft: &mut Draft<'a>) {
    draft.say_text(Field::UserName, user.strip_prefix("invalid user ").unwrap_or(user));
}

fn say_client<'a>((address, port): (&'a str, &str), draft: &mut Draft<'a>) {
    draft.say_client(address);
    draft.say_number(Field::SourcePort, port);
}

/// `pam_MODULE(SERVICE:KIND): …` and `PAM 2 more authentication failures; …`
fn pam<'a>(message: &'a str, draft: &mut Draft<'a>) -> Option<()> {
    if let Some(more) = message.strip_prefix("PAM ") {
        let (_, details) = more.split_once(" more authentication failure")?;
        draft.dataset = "pam";
        say_pam(draft, "pam_more_failures", FAILURE);
        say_remote(details, draft);
        return Some(());
    }
    let (module, rest) = message.split_once('(')?;
    let (service, text) = rest.split_once("): ")?;
    let (service, kind) = service.split_once(':')?;
    if !module.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return None;
    }
    draft.dataset = "pam";
    draft.say_text(Field::ProcessName, service);
    if let Some(details) = text.strip_prefix("authentication failure;") {
        say_pam(draft, "pam_authentication", FAILURE);
        say_remote(details, draft);
    } else if let ("session", Some(user)) = (kind, text.strip_prefix("session opened for user ")) {
        say_pam(draft, "pam_session_opened", SUCCESS);
        let user = user.split(' ').next().unwrap_or_default();
        draft.say_text(Field::UserName, user.split('(').next().unwrap_or_default());
    } else if let ("session", Some(user)) = (kind, text.strip_prefix("session closed for user ")) {
        say_pam(draft, "pam_session_closed", SUCCESS);
        draft.say_text(Field::UserName, user);
    }
    Some(())
}

fn say_pam<'a>(draft: &mut Draft<'a>, action: &'a str, outcome: &'a str) {
    let category = if action.starts_with("pam_session") { "session" } else { "authentication" };
    draft.say(Field::EventCategory, category);
    draft.say(Field::EventAction, action);
    draft.say(Field::EventOutcome, outcome);
}

/// ` logname= uid=0 euid=0 tty=ssh ruser= rhost=ADDRESS  user=NAME`: the name comes last and can hold anything.
fn say_remote<'a>(details: &'a str, draft: &mut Draft<'a>) {
    let Some((_, after)) = details.split_once(" rhost=") else { return };
    let (address, after) = after.split_once(' ').unwrap_or((after, ""));
    draft.say_client(address);
    draft.say_text(Field::UserName, after.trim_start_matches(' ').strip_prefix("user=").unwrap_or_default());
}

/// `USER : TTY=… ; PWD=… ; USER=TARGET ; COMMAND=…`, with what went wrong before `TTY`.
pub(super) fn sudo<'a>(message: &'a str, draft: &mut Draft<'a>) -> Option<()> {
    let (user, rest) = message.trim_start_matches(' ').split_once(" : ")?;
    let (before, command) = rest.split_once("COMMAND=")?;
    let mut parts = before.split(" ; ");
    let first = parts.next()?;
    let is_refused = !first.starts_with("TTY=") && !first.starts_with("PWD=");
    draft.dataset = "sudo";
    draft.say(Field::EventCategory, "process");
    draft.say(Field::EventAction, "sudo");
    draft.say(Field::EventOutcome, if is_refused { FAILURE } else { SUCCESS });
    draft.say_text(Field::EventReason, if is_refused { first } else { "" });
    draft.say_text(Field::UserName, user);
    draft.say_text(Field::ProcessCommandLine, command);
    let target = parts.find_map(|part| part.strip_prefix("USER="));
    draft.say_text(Field::UserEffectiveName, target.unwrap_or_default());
    Some(())
}
