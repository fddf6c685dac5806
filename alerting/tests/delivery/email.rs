//! Mail: protection of the connection, login, recipients, what the server's answers lead to.

use watchbell_alerting::DeliveryState::{Dead, Retry, Sent};
use watchbell_alerting::notify::{EmailConfig, Receiver, ReceiverConfig, ReceiverKind, Secret, SmtpSecurity};

use watchbell_event::Detection;

use super::rig::{Rig, detection, quick, receiver};
use super::smtp::{Behaviour, SmtpServer};
use super::tls;

/// Mail to two people in plain text.
fn config(server: &SmtpServer) -> EmailConfig {
    let to = ["soc@example.org", "Eve Lead <lead@example.org>"];
    EmailConfig {
        port: server.port,
        security: SmtpSecurity::None,
        timeout_ms: 10_000,
        ..EmailConfig::new("localhost", "Watchbell <watchbell@example.org>", &to)
    }
}

fn email(config: EmailConfig) -> Vec<ReceiverConfig> {
    vec![receiver("mail", ReceiverKind::Email(config))]
}

#[tokio::test]
async fn a_mail_reaches_all_recipients() {
    let server = SmtpServer::start(Behaviour::default()).await;
    let rig = Rig::start(email(config(&server)), quick());
    rig.commit(&[detection(1)]);
    let sent = rig.wait_for(1, "mail", Sent).await;
    assert_eq!(sent.attempts[0].outcome.as_deref(), Some("SMTP 250 queued as 42"));
    let lines = server.lines();
    assert_eq!(
        lines[1..4],
        ["MAIL FROM:<watchbell@example.org>", "RCPT TO:<soc@example.org>", "RCPT TO:<lead@example.org>"]
    );
    let mail = &server.mails()[0];
    assert!(mail.contains(&format!("Message-ID: <{}@example.org>", sent.id.unwrap())), "{mail}");
    assert!(mail.contains("eve read secret number 1"), "{mail}");
    rig.stop().await;
}

#[tokio::test]
async fn passwords_travel_only_through_tls_of_a_known_authority() {
    let (ca, acceptor) = tls::authority();
    for (security, implicit) in [(SmtpSecurity::StartTls, false), (SmtpSecurity::Tls, true)] {
        let tls = Some(acceptor.clone());
        let server = SmtpServer::start(Behaviour { tls, implicit, ..Behaviour::default() }).await;
        let login = Some(("watchbell".to_owned(), Secret::new("hunter2hunter2")));
        let unknown = EmailConfig { security, login, ..config(&server) };
        let known = EmailConfig { extra_ca_pem: Some(ca.clone()), ..unknown.clone() };
        let receivers = vec![
            receiver("known", ReceiverKind::Email(known)),
            receiver("unknown", ReceiverKind::Email(unknown)),
        ];
        let rig = Rig::start(receivers, quick());
        rig.commit(&[detection(1)]);
        rig.wait_for(1, "known", Sent).await;
        let retry = rig.wait_for(1, "unknown", Retry).await;
        assert!(retry.reason.as_ref().unwrap().contains("certificate"), "{retry:?}");
        let logins = server.lines().iter().filter(|line| line.starts_with("AUTH")).count();
        assert_eq!((logins, server.mails().len()), (1, 1));
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_server_without_starttls_gets_neither_mail_nor_password() {
    let server = SmtpServer::start(Behaviour::default()).await;
    let login = Some(("watchbell".to_owned(), Secret::new("hunter2hunter2")));
    let config = EmailConfig { security: SmtpSecurity::StartTls, login, ..config(&server) };
    let rig = Rig::start(email(config), quick());
    rig.commit(&[detection(1)]);
    let retry = rig.wait_for(1, "mail", Retry).await;
    assert!(retry.reason.unwrap().contains("STARTTLS"));
    assert!(
        server.lines().iter().all(|line| line.starts_with("EHLO") || line == "QUIT"),
        "{:?}",
        server.lines()
    );
    rig.stop().await;
}

#[tokio::test]
async fn the_servers_answer_decides_what_comes_next() {
    for (command, answer, expect) in [
        ("MAIL", "451 try later", Sent),
        ("MAIL", "550 not from you", Dead),
        ("RCPT TO:<soc", "451 greylisted", Sent),
        ("RCPT TO:<soc", "550 unknown user", Sent),
        ("RCPT", "550 unknown user", Dead),
        ("DATA", "554 spam", Dead),
        ("DATA", "421 shutting down", Sent),
        ("EHLO", "554 go away", Sent),
        ("MAIL", "530 log in first", Sent),
    ] {
        let answers = vec![(0, command, answer)];
        let server = SmtpServer::start(Behaviour { answers, ..Behaviour::default() }).await;
        let rig = Rig::start(email(config(&server)), quick());
        rig.commit(&[detection(1)]);
        let delivery = rig.wait_for(1, "mail", expect).await;
        let outcome = delivery.attempts[0].outcome.as_ref().unwrap();
        assert!(outcome.contains(&answer[4..]), "{command} {answer}: {outcome}");
        let repeated = answer.starts_with('4') || answer.contains("go away") || answer.contains("log in");
        assert_eq!(delivery.attempts.len(), 1 + usize::from(repeated), "{command} {answer}");
        assert_eq!(server.mails().len(), usize::from(expect == Sent), "{command} {answer}");
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_mail_that_is_too_large_is_divided_and_a_full_mailbox_is_not() {
    for (answer, divided) in [
        ("552 Message size exceeds fixed limit", true),
        ("552 5.3.4 Message too big for system", true),
        ("554 5.2.3 Message length exceeds administrative limit", true),
        ("552 5.2.2 Mailbox full", false),
        ("554 spam", false),
    ] {
        let refusals = vec![(12_000, answer)];
        let server = SmtpServer::start(Behaviour { refusals, ..Behaviour::default() }).await;
        let rig = Rig::start(email(config(&server)), quick());
        let detections: Vec<Detection> = (0..60).map(detection).collect();
        rig.commit(&detections);
        if divided {
            for number in 0..60 {
                rig.wait_for(number, "mail", Sent).await;
            }
            assert!(rig.store.dead_letters(10).unwrap().is_empty(), "{answer}");
            assert!((2..=12).contains(&server.mails().len()), "{answer}: {}", server.mails().len());
        } else {
            let dead = rig.wait_for(0, "mail", Dead).await;
            assert_eq!((dead.alerts, server.mails().len()), (60, 0), "{answer}");
        }
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_tried_again_and_never_shown() {
    let (ca, acceptor) = tls::authority();
    let answers = vec![(0, "AUTH", "535 hunter2hunter2 is wrong")];
    let server =
        SmtpServer::start(Behaviour { tls: Some(acceptor), implicit: true, answers, ..Behaviour::default() })
            .await;
    let login = Some(("watchbell".to_owned(), Secret::new("hunter2hunter2")));
    let config =
        EmailConfig { security: SmtpSecurity::Tls, login, extra_ca_pem: Some(ca), ..config(&server) };
    let rig = Rig::start(email(config), quick());
    rig.commit(&[detection(1)]);
    let sent = rig.wait_for(1, "mail", Sent).await;
    let outcome = sent.attempts[0].outcome.as_ref().unwrap();
    assert!(outcome.contains("[secret] is wrong"), "{outcome}");
    rig.stop().await;
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    let base = || EmailConfig::new("mail.example.org", "watchbell@example.org", &["soc@example.org"]);
    let login = Some(("watchbell".to_owned(), Secret::new("hunter2")));
    for (config, reason) in [
        (EmailConfig { from: "nobody".to_owned(), ..base() }, "\"nobody\" is not a mail address"),
        (EmailConfig { from: "a@b.c\r\nBcc: x@y.z".to_owned(), ..base() }, "is not a mail address"),
        (EmailConfig { to: Vec::new(), ..base() }, "a mail goes to 1 to 100 addresses"),
        (EmailConfig { security: SmtpSecurity::None, login, ..base() }, "a password is not sent without TLS"),
        (EmailConfig { host: "169.254.169.254".to_owned(), ..base() }, "link-local or metadata"),
        (EmailConfig { extra_ca_pem: Some(b"-----BEGIN CERTIFICATE-----".to_vec()), ..base() }, "not PEM"),
        (EmailConfig { host: String::new(), ..base() }, "name is empty"),
    ] {
        let error = Receiver::new(receiver("mail", ReceiverKind::Email(config))).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
