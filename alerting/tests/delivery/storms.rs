//! Many alerts at once.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use watchbell_alerting::DeliveryState;
use watchbell_alerting::notify::{QuotaConfig, ReceiverConfig};
use watchbell_event::{Detection, Level};

use super::http::{OK, Server};
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

#[tokio::test]
async fn what_exceeds_a_quota_waits_and_goes_in_one_message() {
    let server = Server::start(|_, _| OK).await;
    let rig = Rig::start(vec![limited(webhook("soc", &server.url()), 1, 700)], quick());
    rig.commit(&[detection(1)]);
    rig.wait_for(1, "soc", DeliveryState::Sent).await;
    rig.commit(&[detection(2), detection(3)]);
    rig.commit(&[detection(4), detection(5), detection(6)]);
    rig.wait_for(6, "soc", DeliveryState::Sent).await;
    let requests = server.requests();
    assert_eq!(requests.iter().map(|request| request.alerts().len()).collect::<Vec<_>>(), [1, 5]);
    assert!(requests[1].at.duration_since(requests[0].at) >= Duration::from_millis(600));
    rig.stop().await;
}

#[tokio::test]
async fn alerts_wait_for_each_other_but_a_critical_one_takes_them_along_at_once() {
    let server = Server::start(|_, _| OK).await;
    let mut receiver = webhook("soc", &server.url());
    receiver.group_wait_ms = Some(1_500);
    let rig = Rig::start(vec![receiver], quick());
    rig.commit(&[detection(1)]);
    rig.commit(&[detection(2)]);
    until("the first message came", || server.count() == 1).await;
    rig.commit(&[detection(3)]);
    let start = Instant::now();
    rig.commit(&[Detection { level: Level::Critical, ..detection(4) }]);
    until("the second message came", || server.count() == 2).await;
    assert!(start.elapsed() < Duration::from_millis(1_200), "{:?}", start.elapsed());
    let alerts: Vec<usize> = server.requests().iter().map(|request| request.alerts().len()).collect();
    assert_eq!(alerts, [2, 2]);
    assert_eq!(server.requests()[1].json()["alerts"][0]["labels"]["severity"], "critical");
    rig.stop().await;
}
