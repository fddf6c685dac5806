//! Many alerts at once.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use watchbell_alerting::DeliveryState;
use watchbell_alerting::notify::{QuotaConfig, ReceiverConfig};
use watchbell_event::{Detection, Level};

use super::http::{OK, Server, TOO_LARGE};
use super::rig::{Rig, detection, quick, slack, until, webhook};

fn limited(mut receiver: ReceiverConfig, burst: u32, per_message_ms: u64) -> ReceiverConfig {
    receiver.quota = Some(QuotaConfig { burst: NonZeroU32::new(burst).unwrap(), per_message_ms });
    receiver
}

#[tokio::test]
async fn ten_thousand_alerts_become_a_handful_of_messages_and_none_is_missing() {
    let (hook, chat) = (Server::start(|_, _| OK).await, Server::start(|_, _| OK).await);
    let receivers =
        vec![limited(webhook("soc", &hook.url()), 2, 100), limited(slack("chat", &chat.url()), 1, 300)];
    let rig = Rig::start(receivers, quick());
    let detections: Vec<Detection> = (0..10_000).map(detection).collect();
    let start = Instant::now();
    for batch in detections.chunks(500) {
        rig.commit(batch);
    }
    println!("10,000 alerts for two receivers committed in {:?}", start.elapsed());
    rig.wait_for(9_999, "soc", DeliveryState::Sent).await;
    rig.wait_for(9_999, "chat", DeliveryState::Sent).await;
    assert_eq!(rig.alerts(), 10_000);
    let alerts: Vec<String> = hook.requests().iter().flat_map(super::http::Request::alerts).collect();
    assert_eq!((alerts.len(), alerts.iter().collect::<HashSet<_>>().len()), (10_000, 10_000));
    println!("{} webhook messages, {} Slack messages", hook.count(), chat.count());
    assert!(hook.count() <= 40 && chat.count() <= 30, "{} {}", hook.count(), chat.count());
    let bodies: Vec<String> = chat.requests().into_iter().map(|request| request.body).collect();
    assert!(bodies.iter().all(|body| body.len() < 40_000));
    assert!(bodies.iter().any(|body| body.contains("more alerts*, see the list of alerts")));
    rig.stop().await;
}

/// A detection that takes about 3 kB of a webhook's body.
fn long(number: u64) -> Detection {
    let labels =
        vec![("user.name".into(), "e".repeat(1000)), ("user_agent.original".into(), "k".repeat(1000))];
    Detection { labels, summary: format!("number {number} {}", "s".repeat(500)), ..detection(number) }
}

/// Sends `count` long alerts to a webhook that takes `limit` bytes; returns how many messages it took to
/// deliver each of them once.
async fn messages_to_deliver(count: u64, limit: usize) -> (usize, usize) {
    let server =
        Server::start(move |_, request| if request.body.len() > limit { TOO_LARGE } else { OK }).await;
    let rig = Rig::start(vec![webhook("soc", &server.url())], quick());
    rig.commit(&(0..count).map(long).collect::<Vec<_>>());
    let taken = || server.requests().into_iter().filter(|request| request.body.len() <= limit);
    let alerts = || taken().flat_map(|request| request.alerts()).collect::<Vec<String>>();
    for number in 0..count {
        rig.wait_for(number, "soc", DeliveryState::Sent).await;
    }
    let alerts = alerts();
    let distinct = alerts.iter().collect::<HashSet<_>>().len();
    assert_eq!((alerts.len() as u64, distinct as u64), (count, count));
    assert!(rig.store.dead_letters(10).unwrap().is_empty());
    let ids: HashSet<String> = taken().map(|request| request.header("webhook-id").to_owned()).collect();
    assert_eq!(ids.len(), taken().count());
    rig.stop().await;
    (taken().count(), server.count())
}

#[tokio::test]
async fn bodies_stay_within_a_mebibyte_and_what_does_not_fit_follows() {
    let (taken, all) = messages_to_deliver(1_200, 1 << 20).await;
    assert_eq!(taken, all);
    assert!((3..=6).contains(&taken), "{taken}");
}

#[tokio::test]
async fn a_webhook_that_takes_less_gets_smaller_messages() {
    let (taken, all) = messages_to_deliver(400, 200_000).await;
    assert!((5..=20).contains(&taken) && all - taken <= 10, "{taken} of {all}");
}

#[tokio::test]
async fn an_alert_that_is_too_large_by_itself_is_dead_and_holds_up_nobody() {
    let too_large = |request: &super::http::Request| request.body.contains("number 3 s");
    let server = Server::start(move |_, request| if too_large(request) { TOO_LARGE } else { OK }).await;
    let rig = Rig::start(vec![webhook("soc", &server.url())], quick());
    rig.commit(&(0..8).map(long).collect::<Vec<_>>());
    for number in 0..8 {
        let expect = if number == 3 { DeliveryState::Dead } else { DeliveryState::Sent };
        rig.wait_for(number, "soc", expect).await;
    }
    let dead = rig.delivery(3, "soc");
    assert_eq!((dead.alerts, dead.reason.as_deref()), (1, Some("HTTP 413 too large")));
    rig.stop().await;
}

#[tokio::test]
async fn what_exceeds_a_quota_waits_and_goes_in_one_message() {
    let server = Server::start(|_, _| OK).await;
    let rig = Rig::start(vec![limited(webhook("soc", &server.url()), 1, 2_000)], quick());
    rig.commit(&[detection(1)]);
    rig.wait_for(1, "soc", DeliveryState::Sent).await;
    rig.commit(&[detection(2), detection(3)]);
    rig.commit(&[detection(4), detection(5), detection(6)]);
    rig.wait_for(6, "soc", DeliveryState::Sent).await;
    let requests = server.requests();
    assert_eq!(requests.iter().map(|request| request.alerts().len()).collect::<Vec<_>>(), [1, 5]);
    let began = |number| rig.delivery(number, "soc").attempts[0].started_at;
    assert!(began(6) >= began(1).plus_micros(1_000_000), "{} and {}", began(1), began(6));
    rig.stop().await;
}

#[tokio::test]
async fn alerts_wait_for_each_other_but_a_critical_one_takes_them_along_at_once() {
    let server = Server::start(|_, _| OK).await;
    let mut receiver = webhook("soc", &server.url());
    receiver.group_wait_ms = Some(9_000);
    let rig = Rig::start(vec![receiver], quick());
    rig.commit(&[detection(1)]);
    rig.commit(&[detection(2)]);
    until("the first message came", || server.count() == 1).await;
    rig.commit(&[detection(3)]);
    let start = Instant::now();
    rig.commit(&[Detection { level: Level::Critical, ..detection(4) }]);
    until("the second message came", || server.count() == 2).await;
    assert!(start.elapsed() < Duration::from_millis(8_000), "{:?}", start.elapsed());
    let alerts: Vec<usize> = server.requests().iter().map(|request| request.alerts().len()).collect();
    assert_eq!(alerts, [2, 2]);
    assert_eq!(server.requests()[1].json()["alerts"][0]["labels"]["severity"], "critical");
    rig.stop().await;
}
