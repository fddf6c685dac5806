//! What a mail looks like: one text and one HTML form of the same content.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use watchbell_event::Timestamp;

use super::super::Context;
use super::super::message::{Detail, Message, Notice, list_link};
use super::super::text::{html, one_line};

/// How many alerts a mail shows with all their details; the others have one line each.
const DETAILED: usize = 10;
/// Longest text of all their details together, in bytes; servers take mails of 10 MB, and this is sent twice,
/// escaped and encoded.
const DETAILED_BYTES: usize = 256 << 10;
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
    let mut text = String::new();
    if message.total > 1 {
        let _ = writeln!(text, "{}\n", message.subject());
        for rule in &message.rules {
            let title = one_line(&rule.title, LINE_BYTES);
            let _ = writeln!(text, "  {} x [{}] {title}", rule.alerts, rule.level);
        }
        text.push('\n');
    }
    let (detailed, brief) = message.notices.split_at(detailed(message, external_url));
    for notice in detailed {
        let _ = writeln!(text, "{}\n{}", notice.headline(), one_line(notice.summary(), usize::MAX));
        plain_details(&mut text, &notice.details(external_url));
        text.push('\n');
    }
    for notice in brief {
        let link = notice.link(external_url).unwrap_or_else(|| notice.alert.id.to_string());
        let _ = writeln!(text, "- {}\n  {link}", brief_line(notice));
    }
    if message.beyond(message.notices.len()) > 0 {
        let _ = writeln!(text, "\n{}", beyond(message, external_url));
    }
    text
}

fn plain_details(text: &mut String, details: &[Detail]) {
    for detail in details {
        let _ = match detail {
            Detail::Text(caption, value) => writeln!(text, "  {caption}: {}", one_line(value, usize::MAX)),
            Detail::Link(caption, link) => writeln!(text, "  {caption}: {link}"),
            Detail::List(caption, values) => {
                let values = values.iter().map(|value| format!("\n    - {}", one_line(value, usize::MAX)));
                writeln!(text, "  {caption}:{}", values.collect::<String>())
            }
        };
    }
}

fn rich(message: &Message, external_url: Option<&str>) -> String {
    let mut text = "<html><body>\n".to_owned();
    if message.total > 1 {
        let _ = writeln!(text, "<h2>{}</h2>\n<table>", html(&message.subject()));
        for rule in &message.rules {
            let title = html(&one_line(&rule.title, LINE_BYTES));
            let (alerts, level) = (rule.alerts, rule.level);
            let _ = writeln!(text, "<tr><td>{alerts}</td><td>[{level}]</td><td>{title}</td></tr>");
        }
        text.push_str("</table>\n");
    }
    let (detailed, brief) = message.notices.split_at(detailed(message, external_url));
    for notice in detailed {
        rich_details(&mut text, notice, external_url);
    }
    if !brief.is_empty() {
        text.push_str("<ul>\n");
        for notice in brief {
            let (line, id) = (html(&brief_line(notice)), notice.alert.id.to_string());
            let line = match notice.link(external_url) {
                Some(link) => format!("{line} {}", anchor(&link, "alert")),
                None => format!("{line} [{id}]"),
            };
            let _ = writeln!(text, "<li>{line}</li>");
        }
        text.push_str("</ul>\n");
    }
    if message.beyond(message.notices.len()) > 0 {
        let _ = writeln!(text, "<p>{}</p>", html(&beyond(message, external_url)));
    }
    text.push_str("</body></html>\n");
    text
}

fn rich_details(text: &mut String, notice: &Notice, external_url: Option<&str>) {
    let _ = writeln!(text, "<h3>{}</h3>", html(&notice.headline()));
    let _ = writeln!(text, "<p>{}</p>\n<table>", html(&one_line(notice.summary(), usize::MAX)));
    let mut links = Vec::new();
    for detail in notice.details(external_url) {
        match &detail {
            Detail::Text(caption, value) => {
                let (caption, value) = (html(caption), html(&one_line(value, usize::MAX)));
                let _ = writeln!(
                    text,
                    "<tr><th align=\"left\" valign=\"top\">{caption}</th><td>{value}</td></tr>"
                );
            }
            Detail::List(caption, values) => {
                let values = values.iter().map(|value| html(&one_line(value, usize::MAX)));
                let values = values.collect::<Vec<_>>().join("<br>");
                let caption = html(caption);
                let _ = writeln!(
                    text,
                    "<tr><th align=\"left\" valign=\"top\">{caption}</th><td>{values}</td></tr>"
                );
            }
            Detail::Link(caption, link) => links.push(anchor(link, caption)),
        }
    }
    let _ = writeln!(text, "</table>\n<p>{}</p>", links.join(" · "));
}

fn anchor(link: &str, text: &str) -> String {
    format!("<a href=\"{}\">{}</a>", html(link), html(text))
}

/// How many alerts are shown with all their details: few enough to be read, and to keep the mail small.
fn detailed(message: &Message, external_url: Option<&str>) -> usize {
    let mut used = 0;
    let fits = |notice: &&Notice| {
        let details = notice.details(external_url);
        used += details.iter().map(Detail::len).sum::<usize>();
        used <= DETAILED_BYTES
    };
    message.notices.iter().take(DETAILED).take_while(fits).count()
}

fn brief_line(notice: &Notice) -> String {
    let line =
        format!("{}: {} ({}, {})", notice.headline(), notice.summary(), notice.occurrences(), notice.when());
    one_line(&line, LINE_BYTES)
}

fn beyond(message: &Message, external_url: Option<&str>) -> String {
    let place = list_link(external_url).unwrap_or_else(|| "the list of alerts".to_owned());
    format!("+{} more alerts, see {place}", message.beyond(message.notices.len()))
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
    fn a_mail_about_one_alert_says_everything_once() {
        let mut one = notice(1);
        (one.alert.count, one.alert.last_summary) = (4, "eve read secret 4".to_owned());
        let id = one.alert.id;
        let text = plain(&message(vec![one]), Some("https://watch.example"));
        let expect = format!(
            "[HIGH] Secret read in prod\neve read secret\n  Who: eve\n  Cluster: prod\n  \
             When: 2026-02-02 02:40:00 to 02:41:00 UTC\n  How often: 4 times\n  \
             Latest: eve read secret 4\n  Alert: https://watch.example/api/v1/alerts/{id}\n  \
             Events: https://watch.example/api/v1/search?q=rule%3A%22rule-1%22"
        );
        assert!(text.starts_with(&expect), "{text}");
    }

    #[test]
    fn both_forms_say_what_matched_and_what_to_do_without_markup_of_events() {
        let mut one = notice(1);
        one.alert.explanation.matched = vec![watchbell_event::MetCondition {
            field: "requestURI".to_owned(),
            test: "contains \"<b>\"".to_owned(),
            values: vec!["a<b>\nc".to_owned()],
        }];
        one.alert.explanation.next_steps = vec!["Ask eve.".to_owned(), "Rotate it.".to_owned()];
        let message = message(vec![one]);
        let text = plain(&message, None);
        let expect = "  What matched: requestURI: a<b> c (contains \"<b>\")\n  \
            What to do:\n    - Ask eve.\n    - Rotate it.\n";
        assert!(text.contains(expect), "{text}");
        let text = rich(&message, None);
        assert!(text.contains("requestURI: a&lt;b&gt; c (contains &quot;&lt;b&gt;&quot;)</td>"), "{text}");
        assert!(text.contains("<td>Ask eve.<br>Rotate it.</td>"), "{text}");
    }

    #[test]
    fn alerts_with_much_to_say_still_make_a_mail_that_servers_take() {
        let mut long = notice(1);
        long.alert.labels = (0..32).map(|n| (format!("label{n}"), "\"é".repeat(341))).collect();
        long.alert.explanation.matched = vec![
            watchbell_event::MetCondition {
                field: "f".repeat(200),
                test: "<".repeat(200),
                values: vec!["\"".repeat(200); 4]
            };
            16
        ];
        let mail = compose(&message(vec![long; 1000]));
        assert!(mail.len() < 8 << 20, "{}", mail.len());
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
