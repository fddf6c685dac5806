//! Receivers that fail, and processes that end at the wrong moment.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use watchbell_alerting::DeliveryState::{Dead, Retry, Sending, Sent};
use watchbell_alerting::DispatchConfig;
use watchbell_event::Timestamp;

use super::http::{Answer, OK, Server};
use super::rig::{Rig, alert_id, clock, detection, epoch, quick, slack, until, webhook};

/// An alert reaches a receiver that at first answers as given, on the second attempt, under one id; by the
/// dispatcher's clock not before `earliest` of the first attempt's begin.
async fn recovers_from(first: fn() -> Answer, reason: &str, earliest: fn(Timestamp) -> Timestamp) {
    let server = Server::start(move |n, _| if n == 0 { first() } else { OK }).await;
    let mut config = webhook("soc", &server.url());
    if let watchbell_alerting::notify::ReceiverKind::Webhook(webhook) = &mut config.kind {
        webhook.http.timeout_ms = 1_000;
    }
    let rig = Rig::start(vec![config], quick());
    rig.commit(&[detection(1)]);
    let sent = rig.wait_for(1, "soc", Sent).await;
    let [first, second] = &sent.attempts[..] else { panic!("{:?}", sent.attempts) };
    let outcome = first.outcome.as_deref().unwrap();
    assert!(outcome.contains(reason), "{outcome}");
    assert!(!outcome.contains("token-5f9c2d71"), "{outcome}");
    assert!(second.started_at >= earliest(first.started_at), "{first:?}, then {second:?}");
    let requests = server.requests();
    assert_eq!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
    assert_eq!(requests[0].alerts(), requests[1].alerts());
    rig.stop().await;
}

#[tokio::test]
async fn failures_that_may_pass_are_tried_again() {
    let a_second_later = |first: Timestamp| first.plus_micros(1_000_000);
    let when_told = |_| epoch().plus_micros(4_000_000);
    tokio::join!(
        recovers_from(|| Answer::Status("500 Oops", "", "at /hook/token-5f9c2d71"), "HTTP 500 at", |at| at),
        recovers_from(|| Answer::Status("408 Slow", "", ""), "HTTP 408", |at| at),
        recovers_from(
            || Answer::Status("429 Slow down", "retry-after: 1\r\n", ""),
            "HTTP 429",
            a_second_later
        ),
        recovers_from(
            || Answer::Status("503 Later", "retry-after: Mon, 02 Feb 2026 02:40:04 GMT\r\n", ""),
            "HTTP 503",
            when_told
        ),
        recovers_from(|| Answer::Hang, "timed out", a_second_later),
        recovers_from(|| Answer::Close, "", |at| at),
    );
}

#[tokio::test]
async fn refusals_become_dead_letters_with_the_reason_and_hold_up_nobody() {
    let elsewhere = Server::start(|_, _| OK).await;
    let location: &'static str = format!("location: {}\r\n", elsewhere.url()).leak();
    let server = Server::start(move |n, _| match n {
        0 => Answer::Status("400 Bad", "", "no such hook: token-5f9c2d71"),
        1 => Answer::Status("302 Found", location, ""),
        _ => OK,
    })
    .await;
    let rig = Rig::start(vec![webhook("soc", &server.url())], quick());
    for number in 1..=3 {
        rig.commit(&[detection(number)]);
        until("the attempt was made", || {
            rig.delivery(number, "soc").attempts.iter().any(|a| a.ended_at.is_some())
        })
        .await;
    }
    let states: Vec<_> = (1..=3).map(|number| rig.delivery(number, "soc").state).collect();
    assert_eq!(states, [Dead, Dead, Sent]);
    assert_eq!(rig.delivery(1, "soc").reason.unwrap(), "HTTP 400 no such hook: [secret]");
    assert_eq!(rig.delivery(2, "soc").reason.unwrap(), "HTTP 302: redirects are not followed");
    assert_eq!(elsewhere.count(), 0);
    assert_eq!(rig.store.dead_letters(10).unwrap().len(), 2);
    rig.stop().await;
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_sent_nothing_more_until_the_next_start() {
    let server = Server::start(|n, _| if n == 0 { Answer::Status("410 Gone", "", "") } else { OK }).await;
    let rig = Rig::start(vec![webhook("soc", &server.url())], quick());
    rig.commit(&[detection(1)]);
    rig.wait_for(1, "soc", Dead).await;
    rig.commit(&[detection(2)]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.count(), 1);
    let directory = rig.stop().await;
    let rig = Rig::open(directory, vec![webhook("soc", &server.url())], quick());
    rig.wait_for(2, "soc", Sent).await;
    assert_eq!(rig.delivery(1, "soc").state, Dead);
    rig.stop().await;
}

#[tokio::test]
async fn a_failing_receiver_delays_no_other() {
    let dead = Server::start(|_, _| Answer::Hang).await;
    let good = Server::start(|_, _| OK).await;
    let rig = Rig::start(vec![webhook("dead", &dead.url()), slack("good", &good.url())], quick());
    let start = Instant::now();
    for number in 1..=20 {
        rig.commit(&[detection(number)]);
        rig.wait_for(number, "good", Sent).await;
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert!(dead.count() <= 10);
    rig.stop().await;
}

#[tokio::test]
async fn a_message_the_receiver_never_takes_does_not_hold_up_the_others() {
    let server = Server::start(|_, request| match request.body.contains("number 1\"") {
        true => Answer::Status("500 Oops", "", ""),
        false => OK,
    })
    .await;
    let config = DispatchConfig {
        max_attempts: 8,
        retry_min_ms: 50,
        retry_max_ms: 10_000,
        ..DispatchConfig::default()
    };
    let rig = Rig::start(vec![webhook("soc", &server.url())], config);
    rig.commit(&[detection(1)]);
    until("the waits between attempts are long", || rig.delivery(1, "soc").attempts.len() == 6).await;
    for number in 2..=5 {
        rig.commit(&[detection(number)]);
        rig.wait_for(number, "soc", Sent).await;
    }
    assert_eq!(rig.delivery(1, "soc").state, Retry);
    let dead = rig.wait_for(1, "soc", Dead).await;
    assert_eq!(dead.reason.unwrap(), "given up after 8 attempts: HTTP 500");
    rig.stop().await;
}

#[tokio::test]
async fn endless_answers_are_read_to_a_bound() {
    let server = Server::start(|_, _| Answer::Endless).await;
    let rig = Rig::start(vec![webhook("soc", &server.url())], quick());
    rig.commit(&[detection(1)]);
    let sent = rig.wait_for(1, "soc", Sent).await;
    assert!(sent.attempts[0].outcome.as_ref().unwrap().len() <= 200);
    rig.stop().await;
}

#[tokio::test]
async fn after_a_crash_only_the_attempt_in_flight_is_repeated_under_its_id() {
    let server = Server::start(|n, _| if n == 1 { Answer::Hang } else { OK }).await;
    let rig = Rig::start(vec![webhook("soc", &server.url())], quick());
    rig.commit(&[detection(1)]);
    rig.wait_for(1, "soc", Sent).await;
    rig.commit(&[detection(2)]);
    until("the attempt is in flight", || server.count() == 2).await;
    rig.commit(&[detection(3)]);
    let directory = rig.crash().await;
    let rig = Rig::open(directory, vec![webhook("soc", &server.url())], quick());
    for number in 1..=3 {
        rig.wait_for(number, "soc", Sent).await;
    }
    let requests = server.requests();
    let sent: Vec<_> =
        requests.iter().map(|request| (request.header("webhook-id"), request.alerts())).collect();
    let alert = |number| vec![alert_id(number).to_string()];
    assert_eq!(
        sent.iter().map(|(_, alerts)| alerts.clone()).collect::<Vec<_>>(),
        [alert(1), alert(2), alert(2), alert(3)]
    );
    assert_eq!(sent[1].0, sent[2].0);
    assert_eq!(sent.iter().map(|(id, _)| id).collect::<HashSet<_>>().len(), 3);
    rig.stop().await;
}

#[tokio::test]
async fn an_outcome_that_the_database_did_not_take_is_written_later_without_another_attempt() {
    let server = Server::start(|_, _| OK).await;
    let rig = Rig::start(vec![webhook("soc", &server.url())], quick());
    let sql = rusqlite::Connection::open(rig.directory.path().join("alerts.db")).unwrap();
    sql.busy_timeout(Duration::from_secs(5)).unwrap();
    let full = "CREATE TRIGGER full BEFORE UPDATE ON delivery BEGIN SELECT RAISE(ABORT, 'disk full'); END";
    sql.execute_batch(full).unwrap();
    rig.commit(&[detection(1), detection(2)]);
    until("the attempt was made", || server.count() == 1).await;
    rig.commit(&[detection(3)]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(rig.delivery(1, "soc").state, Sending);
    sql.execute_batch("DROP TRIGGER full").unwrap();
    for number in 1..=3 {
        rig.wait_for(number, "soc", Sent).await;
    }
    assert_eq!(rig.delivery(1, "soc").attempts.len(), 1);
    assert_eq!(server.count(), 2);
    rig.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_wait_longer() {
    let hour = "retry-after: 3600\r\n";
    let server =
        Server::start(move |n, _| if n == 0 { Answer::Status("503 Later", hour, "") } else { OK }).await;
    let back = Arc::new(AtomicI64::new(0));
    let (real, step) = (clock(), Arc::clone(&back));
    let clock = move || real().plus_micros(-step.load(Relaxed));
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::open_at(directory, vec![webhook("soc", &server.url())], quick(), clock);
    rig.commit(&[detection(1)]);
    rig.wait_for(1, "soc", Retry).await;
    back.store(24 * 3600 * 1_000_000, Relaxed);
    rig.commit(&[detection(2)]);
    rig.wait_for(1, "soc", Sent).await;
    rig.wait_for(2, "soc", Sent).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_stop_lets_attempts_in_flight_finish_or_returns_them() {
    let server = Server::start(|n, _| if n == 0 { Answer::Hang } else { OK }).await;
    let config = DispatchConfig { drain_timeout_ms: 100, ..quick() };
    let rig = Rig::start(vec![webhook("soc", &server.url())], config);
    rig.commit(&[detection(1)]);
    until("the attempt is in flight", || server.count() == 1).await;
    let start = Instant::now();
    let directory = rig.stop().await;
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    let rig = Rig::open(directory, vec![webhook("soc", &server.url())], quick());
    rig.wait_for(1, "soc", Sent).await;
    let requests = server.requests();
    assert_eq!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
    rig.stop().await;
}
