//! What arrives at a webhook and at Slack, and how fast.

use std::time::{Duration, Instant};

use watchbell_alerting::DeliveryState;
use watchbell_alerting::notify::{ReceiverKind, Secret, WebhookConfig};
use watchbell_event::Detection;

use super::http::{OK, Server};
use super::rig::{Rig, alert_id, detection, http, id, quick, receiver, slack, until, webhook};
use super::tls;

#[tokio::test]
async fn an_alert_arrives_signed_with_its_ids() {
    let server = Server::start(|_, _| OK).await;
    let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let config = WebhookConfig { http: http(&server.url()), signing_secrets: vec![secret] };
    let rig = Rig::start(vec![receiver("soc", ReceiverKind::Webhook(config))], quick());
    rig.commit(&[detection(1)]);
    let sent = rig.wait_for(1, "soc", DeliveryState::Sent).await;
    let request = &server.requests()[0];
    assert_eq!(request.path, "/hook/token-5f9c2d71");
    let id = sent.id.unwrap().to_string();
    assert_eq!((request.header("webhook-id"), request.header("idempotency-key")), (&*id, &*id));
    assert_eq!(request.header("content-type"), "application/json");
    assert!(request.header("webhook-timestamp").starts_with("1770000"));
    assert!(request.header("webhook-signature").starts_with("v1,"));
    assert_eq!(request.alerts(), [alert_id(1).to_string()]);
    let body = request.json();
    assert_eq!(body["alerts"][0]["labels"]["alertname"], "A secret was read");
    assert_eq!(body["alerts"][0]["annotations"]["description"], "eve read secret number 1");
    assert_eq!(sent.attempts[0].outcome.as_deref(), Some("HTTP 200 ok"));
    rig.stop().await;
}

#[tokio::test]
async fn what_was_imported_notifies_nobody_until_it_happens_again() {
    let server = Server::start(|_, _| OK).await;
    let rig = Rig::start(vec![slack("chat", &server.url())], quick());
    let again = |number| Detection { group_key: id(1), ..detection(number) };
    rig.commit(&[Detection { history: true, ..again(1) }, Detection { history: true, ..again(2) }]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((server.count(), rig.store.deliveries(alert_id(1)).unwrap().len()), (0, 0));
    rig.commit(&[again(3)]);
    rig.wait_for(1, "chat", DeliveryState::Sent).await;
    let body = &server.requests()[0].body;
    for expect in ["*How often:* 3 times", "*Latest:* eve read secret number 3"] {
        assert!(body.contains(expect), "{body}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn slack_gets_blocks() {
    let server = Server::start(|_, _| OK).await;
    let rig = Rig::start(vec![slack("chat", &server.url())], quick());
    rig.commit(&[detection(1)]);
    rig.wait_for(1, "chat", DeliveryState::Sent).await;
    let body = server.requests()[0].json();
    let subject = "[HIGH] A secret was read in prod: eve read secret number 1";
    assert_eq!(
        (body["text"].as_str(), body["blocks"][0]["text"]["text"].as_str()),
        (Some(subject), Some("[HIGH] A secret was read in prod"))
    );
    let section = body["blocks"][1]["text"]["text"].as_str().unwrap();
    assert!(section.starts_with("eve read secret number 1\n*Who:* eve\n"), "{section}");
    rig.stop().await;
}

#[tokio::test]
async fn https_trusts_only_known_authorities() {
    let (ca, acceptor) = tls::authority();
    let server = Server::start_tls(acceptor).await;
    let url = format!("https://localhost:{}/", server.port);
    let mut known = http(&url);
    known.extra_ca_pem = Some(ca);
    let config = |http| ReceiverKind::Webhook(WebhookConfig { http, signing_secrets: Vec::new() });
    let receivers = vec![receiver("known", config(known)), receiver("unknown", config(http(&url)))];
    let rig = Rig::start(receivers, quick());
    rig.commit(&[detection(1)]);
    rig.wait_for(1, "known", DeliveryState::Sent).await;
    let retry = rig.wait_for(1, "unknown", DeliveryState::Retry).await;
    assert!(retry.reason.unwrap().contains("certificate"));
    assert_eq!(server.count(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn alerts_arrive_well_within_half_a_second_while_others_are_committed() {
    let server = Server::start(|_, _| OK).await;
    let mut config = webhook("soc", &server.url());
    (config.quota, config.group_wait_ms) = (None, None);
    let rig = Rig::start(vec![config], quick());
    let mut committed = Vec::new();
    for number in 0..100 {
        rig.commit(&[detection(number)]);
        committed.push(Instant::now());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let arrived = || server.requests().iter().map(|request| request.alerts().len()).sum::<usize>();
    until("all arrived", || arrived() == 100).await;
    let mut delays = Vec::new();
    for request in server.requests() {
        for alert in request.alerts() {
            let number = (0..100).find(|number| alert_id(*number).to_string() == alert).unwrap();
            delays.push(request.at.duration_since(committed[usize::try_from(number).unwrap()]));
        }
    }
    delays.sort();
    println!("commit to webhook: p50 {:?}, p99 {:?}", delays[50], delays[99]);
    // On an idle machine all take a few milliseconds; a loaded one stalls now and then.
    assert!(delays[50] < Duration::from_millis(500), "{:?}", delays[50]);
    rig.stop().await;
}
