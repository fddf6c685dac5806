//! Syslog over UDP, TCP and TLS.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;

use crate::support::{BINARY, Server, free_port};

const NEW: &str = "<86>1 2026-01-31T08:15:00Z bastion sshd 812 - - \
    Failed password for root from 203.0.113.9 port 22 ssh2";
const OLD: &str =
    "<38>Jan 31 08:15:00 bastion sshd[812]: Accepted password for eve from 203.0.113.10 port 22 ssh2";

#[tokio::test]
async fn messages_are_found_whatever_brings_them() {
    let (tcp, udp) = (free_port(), free_port());
    let mut server = Server::start(&format!(
        "syslog: {{listen_tcp: '127.0.0.1:{tcp}', listen_udp: '127.0.0.1:{udp}', cluster: prod, \
         max_message: 1KiB}}"
    ))
    .await;
    let mut stream = TcpStream::connect(("127.0.0.1", tcp)).await.unwrap();
    let long = format!("<13>{}\n", "endless ".repeat(100_000));
    let both = format!("{} {NEW}{OLD}\n{long}", NEW.len());
    stream.write_all(both.as_bytes()).await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for message in [NEW, OLD] {
        socket.send_to(message.as_bytes(), ("127.0.0.1", udp)).await.unwrap();
    }
    server.wait_for_count("source:log AND cluster:prod", 5).await;
    for (query, expect) in [
        ("event.dataset:sshd AND host.name:bastion AND process.pid:812", 4),
        ("source.ip:203.0.113.9 AND event.outcome:failure AND log.level:info", 2),
        ("user.name:eve AND log.syslog.facility.code:4", 2),
        ("message:endless AND log.flags:truncated", 1),
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

/// A certificate authority, and what it has signed.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Sends one message over TLS; false if the other side does not take it.
    async fn send(&self, port: u16, client: &Self, message: &str) -> bool {
        let mut roots = rustls::RootCertStore::empty();
        let (certificate, key) = client.sign("agent");
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let Ok(mut stream) = TlsConnector::from(Arc::new(config)).connect(name, stream).await else {
            return false;
        };
        let sent = async {
            stream.write_all(message.as_bytes()).await?;
            stream.shutdown().await?;
            stream.read(&mut [0; 1]).await
        };
        sent.await.is_ok()
    }
}

#[tokio::test]
async fn over_tls_a_sender_needs_a_certificate() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (ours, others) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let (certificate, key) = ours.sign("localhost");
    write("tls.crt", &certificate.pem());
    write("tls.key", &key.serialize_pem());
    write("ca.crt", &ours.pem);
    let (http, port) = (free_port(), free_port());
    write(
        "w.yaml",
        &format!(
            "tls: {{cert_file: tls.crt, key_file: tls.key}}\n\
             syslog: {{listen_tls: '127.0.0.1:{port}', cluster: prod, client_ca_file: ca.crt}}\n"
        ),
    );
    let mut child = std::process::Command::new(BINARY)
        .args(["serve", "--config", "w.yaml", "--data-dir", "data", "--listen", &format!("127.0.0.1:{http}")])
        .current_dir(dir.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(!ours.send(port, &others, NEW).await, "a certificate of somebody else was taken");
    assert!(ours.send(port, &ours, &format!("{} {NEW}", NEW.len())).await);
    let _ = std::process::Command::new("kill").arg(child.id().to_string()).status();
    assert!(child.wait().unwrap().success());
    // the data directory serves without TLS just as well
    let server = Server::start_in(dir, "").await;
    server.wait_for_count("event.dataset:sshd AND host.name:bastion", 1).await;
}
