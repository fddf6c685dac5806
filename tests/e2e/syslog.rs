//! Syslog over UDP, TCP and TLS.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::pki::Authority;
use crate::support::Server;

const NEW: &str = "<86>1 2026-01-31T08:15:00Z bastion sshd 812 - - \
    Failed password for root from 203.0.113.9 port 22 ssh2";
const OLD: &str =
    "<38>Jan 31 08:15:00 bastion sshd[812]: Accepted password for eve from 203.0.113.10 port 22 ssh2";

#[tokio::test]
async fn messages_are_found_whatever_brings_them() {
    let mut server = Server::start(
        "syslog: {listen_tcp: '127.0.0.1:0', listen_udp: '127.0.0.1:0', cluster: prod, max_message: 1KiB}",
    )
    .await;
    let mut stream = TcpStream::connect(("127.0.0.1", server.input_port("syslog_tcp"))).await.unwrap();
    let long = format!("<13>{}\n", "endless ".repeat(100_000));
    let both = format!("{} {NEW}{OLD}\n{long}", NEW.len());
    stream.write_all(both.as_bytes()).await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for message in [NEW, OLD] {
        let to = ("127.0.0.1", server.input_port("syslog_udp"));
        socket.send_to(message.as_bytes(), to).await.unwrap();
    }
    server.wait_for_count("source:log AND cluster:prod", 5).await;
    for (query, expect) in [
        ("event.dataset:sshd AND host.name:bastion AND process.pid:812", 4),
        ("source.ip:203.0.113.9 AND event.outcome:failure AND log.level:info", 2),
        ("user.name:eve AND log.syslog.facility.code:4", 2),
        ("message:endless AND log.flags:truncated", 1),
        ("log.source.address:127.0.0.1", 5),
    ] {
        assert_eq!(server.count(query).await, expect, "{query}");
    }
    // what a sender has sent before the server stops is kept
    stream.write_all(b"<13>the last one").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(server.stop(), Some(0));
    server.restart().await;
    server.wait_for_count("message:\"the last one\"", 1).await;
}

/// Nothing in syslog says what was stored, but a sender may look for the end of the connection before it sends.
#[tokio::test]
async fn a_stop_loses_nothing_of_a_sender_that_looks_whether_the_connection_has_ended() {
    let authority = Authority::new();
    let config = authority.config("  client_clusters: {web-1: prod}\n");
    let inputs = "syslog: {listen_tcp: '127.0.0.1:0', listen_tls: '127.0.0.1:0', cluster: prod}";
    let mut server = Server::start_with("https", &format!("{config}{inputs}\n"), authority.http(None)).await;
    let known = authority.client(8, "web-1", None);
    let mut plain = TcpStream::connect(("127.0.0.1", server.input_port("syslog_tcp"))).await.unwrap();
    let mut secure = authority.connect(server.input_port("syslog_tls"), Some(&known)).await;
    for _ in 0..2 {
        plain.write_all(format!("{OLD}\n").as_bytes()).await.unwrap();
        secure.write_all(format!("{NEW}\n").as_bytes()).await.unwrap();
    }
    server.wait_for_count("source:log AND cluster:prod", 4).await;

    let stopped = tokio::task::spawn_blocking(move || (server.stop(), server));
    // there is never anything to read, and then there is the end
    assert_eq!(plain.peek(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(secure.get_ref().0.peek(&mut [0; 1]).await.unwrap(), 0);
    // what was on its way when the end came
    plain.write_all(b"<13>the last one\n").await.unwrap();
    secure.write_all(b"<13>the last one\n").await.unwrap();
    secure.flush().await.unwrap();
    let (code, mut server) = stopped.await.unwrap();
    assert_eq!(code, Some(0));
    server.restart().await;
    server.wait_for_count("message:\"the last one\" AND cluster:prod", 2).await;
}

/// Sends one message over a connection of its own, and waits until the other side has ended it.
async fn send(server: &Server, authority: &Authority, identity: Option<&str>, message: &str) {
    let mut stream = authority.connect(server.input_port("syslog_tls"), identity).await;
    let _ = stream.write_all(message.as_bytes()).await;
    let _ = stream.shutdown().await;
    while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {}
}

#[tokio::test]
async fn over_tls_a_certificate_says_whose_events_these_are() {
    let authority = Authority::new();
    let config = authority.config("  client_clusters: {web-1: prod}\n");
    let config = format!("{config}syslog: {{listen_tls: '127.0.0.1:0'}}\n");
    let server = Server::start_with("https", &config, authority.http(None)).await;
    let stranger = Authority::new().client(7, "web-1", None);
    let nobody = authority.client(7, "nobody", None);
    for (identity, reason) in [
        (Some(&stranger), "refused a connection for its client certificate"),
        (Some(&nobody), "stands for no cluster (tls.client_clusters)"),
        (None, "has shown no client certificate"),
    ] {
        send(&server, &authority, identity.map(String::as_str), NEW).await;
        server.wait_for_log(reason).await;
    }
    let known = authority.client(8, "web-1", None);
    send(&server, &authority, Some(&known), &format!("{} {NEW}", NEW.len())).await;
    server.wait_for_count("source:log AND cluster:prod AND event.dataset:sshd", 1).await;
    assert_eq!(server.count("source:log").await, 1);
    let sources = server.json("/api/v1/sources").await.to_string();
    assert!(sources.contains(r#""credential":"certificate CN \"web-1\"""#), "{sources}");

    // a connection that is open already does not outlive the right to it
    let mut stream = authority.connect(server.input_port("syslog_tls"), Some(&known)).await;
    stream.write_all(format!("{OLD}\n").as_bytes()).await.unwrap();
    server.wait_for_count("source:log AND user.name:eve", 1).await;
    authority.revoke(&[8]);
    server.wait_for_log("took changed tls files").await;
    stream.write_all(format!("{NEW}\n").as_bytes()).await.unwrap();
    while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {}
    server.wait_for_log("ended a syslog connection").await;
    assert_eq!(server.count("source:log").await, 2);
}
