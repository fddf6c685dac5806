//! What a mail looks like: one text and one HTML form of the same content.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use watchbell_event::Timestamp;

use super::super::Context;
use super::super::message::{Message, Notice};
use super::super::text::{html, one_line};

/// How many alerts a mail shows with all their details; the others have one line each.
const DETAILED: usize = 20;
/// Longest line for an alert without details, in bytes.
const LINE_BYTES: usize = 300;
/// How many alerts' threads a mail belongs to.
const MAX_REFERENCES: usize = 10;

/// Writes a mail: headers and body, ready for SMTP.
pub(super) fn mail(
    message: &Message,
    context: Context<'_>,
    from: &Mailbox,
    to: &[Mailbox],
) -> Result<Vec<u8>, lettre::error::Error> {
    let domain = from.email.domain();
    // Every mail about an alert refers to one id that is no mail's, so that clients show them together.
    let threads = message.notices.iter().take(MAX_REFERENCES);
    let threads: Vec<String> =
        threads.map(|notice| format!("<alert.{}@{domain}>", notice.alert.id)).collect();
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    let builder = lettre::Message::builder()
        .from(from.clone())
        .date(system_time(message.created_at))
        .message_id(Some(format!("<{}@{domain}>", message.id)))
        .references(threads.join(" "))
        .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
        .subject(message.subject());
    let builder = to.iter().fold(builder, |builder, recipient| builder.to(recipient.clone()));
    let body = MultiPart::alternative_plain_html(
        plain(message, context.external_url),
        rich(message, context.external_url),
    );
    Ok(builder.multipart(body)?.formatted())
}

fn system_time(time: Timestamp) -> SystemTime {
    let micros = u64::try_from(time.as_micros()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

fn plain(message: &Message, external_url: Option<&str>) -> String {
    let mut text = format!("{}\n", message.subject());
    let (detailed, brief) = message.notices.split_at(message.notices.len().min(DETAILED));
    for notice in detailed {
        let _ = writeln!(text, "\n{}\n{}", headline(notice), one_line(notice.summary(), usize::MAX));
        for (caption, value) in notice.details(external_url) {
            let _ = writeln!(text, "  {caption}: {}", one_line(&value, usize::MAX));
        }
    }
    if !brief.is_empty() {
        text.push('\n');
    }
    for notice in brief {
        let _ = writeln!(text, "- {}", brief_line(notice));
    }
    if message.beyond(message.notices.len()) > 0 {
        let _ = writeln!(text, "\n{}", beyond(message));
    }
    if message.total > 1 {
        let _ = writeln!(text, "\nBy rule:");
    }
    for rule in message.rules.iter().filter(|_| message.total > 1) {
        let _ = writeln!(text, "  {} x [{}] {}", rule.alerts, rule.level, one_line(&rule.title, LINE_BYTES));
    }
    text
}

fn rich(message: &Message, external_url: Option<&str>) -> String {
    let mut text = format!("<html><body><h2>{}</h2>\n", html(&message.subject()));
    let (detailed, brief) = message.notices.split_at(message.notices.len().min(DETAILED));
    for notice in detailed {
        let _ = writeln!(text, "<h3>{}</h3>", html(&headline(notice)));
        let _ = writeln!(text, "<p>{}</p>\n<table>", html(&one_line(notice.summary(), usize::MAX)));
        for (caption, value) in notice.details(external_url) {
            let value = html(&one_line(&value, usize::MAX));
            let value = if caption == "Link" { format!("<a href=\"{value}\">{value}</a>") } else { value };
            let _ = writeln!(text, "<tr><th align=\"left\">{}</th><td>{value}</td></tr>", html(&caption));
        }
        text.push_str("</table>\n");
    }
    if !brief.is_empty() {
        text.push_str("<ul>\n");
        for notice in brief {
            let _ = writeln!(text, "<li>{}</li>", html(&brief_line(notice)));
        }
        text.push_str("</ul>\n");
    }
    if message.beyond(message.notices.len()) > 0 {
        let _ = writeln!(text, "<p>{}</p>", html(&beyond(message)));
    }
    if message.total > 1 {
        text.push_str("<h3>By rule</h3>\n<table>\n");
        for rule in &message.rules {
            let title = html(&one_line(&rule.title, LINE_BYTES));
            let _ =
                writeln!(text, "<tr><td>{}</td><td>{}</td><td>{title}</td></tr>", rule.alerts, rule.level);
        }
        text.push_str("</table>\n");
    }
    text.push_str("</body></html>\n");
    text
}

fn headline(notice: &Notice) -> String {
    let alert = &notice.alert;
    let headline = format!("[{}] {} in {}", alert.level.name().to_uppercase(), alert.title, alert.cluster);
    one_line(&headline, LINE_BYTES)
}

fn brief_line(notice: &Notice) -> String {
    let id = notice.alert.id.to_string();
    let line = format!("{}: {} ({})", headline(notice), notice.summary(), notice.occurrences());
    format!("{} [{id}]", one_line(&line, LINE_BYTES))
}

fn beyond(message: &Message) -> String {
    format!("+{} more alerts, see the list of alerts.", message.beyond(message.notices.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{message, notice};

    fn compose(message: &Message) -> String {
        let external_url = Some("https://watch.example");
        let context = Context { receiver: "soc", external_url, now: message.created_at };
        let from = "Watchbell <watchbell@example.org>".parse().unwrap();
        let mail = mail(message, context, &from, &["soc@example.org".parse().unwrap()]).unwrap();
        String::from_utf8(mail).unwrap()
    }

    #[test]
    fn a_mail_has_stable_ids_and_threads_by_alert() {
        let message = message(vec![notice(1), notice(2)]);
        let mail = compose(&message);
        let unfolded = mail.replace("\r\n ", " ");
        for expect in [
            format!("Message-ID: <{}@example.org>\r\n", message.id),
            format!("<alert.{}@example.org>", message.notices[0].alert.id),
            format!("<alert.{}@example.org>", message.notices[1].alert.id),
            "Subject: [HIGH] 2 alerts in prod: Secret read (2)\r\n".to_owned(),
            "Auto-Submitted: auto-generated\r\n".to_owned(),
            "Date: Mon, 02 Feb 2026 02:41:00 +0000\r\n".to_owned(),
            "text/plain".to_owned(),
            "text/html".to_owned(),
        ] {
            assert!(unfolded.contains(&expect), "{expect}\n{mail}");
        }
    }

    #[test]
    fn text_from_events_adds_neither_headers_nor_markup() {
        let mut evil = notice(1);
        evil.alert.title = "x\r\nBcc: mallory@example.org\r\n\r\n<script>alert(1)</script>".to_owned();
        evil.alert.first_summary = "<img src=x>\n.\nMAIL FROM:<a@b>".to_owned();
        evil.alert.labels = vec![("user.name".to_owned(), "<b>\"eve\"</b>".to_owned())];
        let message = message(vec![evil]);
        let mail = compose(&message);
        let (headers, _) = mail.split_once("\r\n\r\n").unwrap();
        assert!(!headers.lines().any(|line| line.to_lowercase().starts_with("bcc:")), "{headers}");
        let rich = rich(&message, None);
        for markup in ["<script", "<img", "<b>"] {
            assert!(!rich.contains(markup), "{rich}");
        }
        assert!(!plain(&message, None).lines().any(|line| line == "." || line.starts_with("Bcc")));
    }

    #[test]
    fn a_storm_lists_every_alert_it_holds_and_counts_the_rest() {
        let mut message = message((0..1000).map(notice).collect());
        message.total = 10_000;
        for text in [plain(&message, None), rich(&message, None)] {
            for notice in &message.notices {
                assert!(text.contains(&notice.alert.id.to_string()));
            }
            assert!(text.contains("+9000 more alerts"));
            assert!(text.len() < 1 << 20, "{}", text.len());
        }
    }
}
