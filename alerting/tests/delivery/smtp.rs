//! A small SMTP server that answers as the test says and keeps the conversation.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// How a server behaves.
#[derive(Clone, Default)]
pub(super) struct Behaviour {
    /// Offers STARTTLS, or speaks TLS at once.
    pub(super) tls: Option<TlsAcceptor>,
    /// TLS from the first byte.
    pub(super) implicit: bool,
    /// Answers to commands that begin like this, instead of 250. The n-th connection is counted from 0.
    pub(super) answers: Vec<(usize, &'static str, &'static str)>,
    /// Answers to mails of more bytes than given, instead of 250.
    pub(super) refusals: Vec<(usize, &'static str)>,
}

#[derive(Clone)]
pub(super) struct SmtpServer {
    pub(super) port: u16,
    lines: Arc<Mutex<Vec<String>>>,
    mails: Arc<Mutex<Vec<String>>>,
}

impl SmtpServer {
    pub(super) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, lines: Arc::default(), mails: Arc::default() };
        let shared = server.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (shared, behaviour) = (shared.clone(), behaviour.clone());
                tokio::spawn(async move { shared.accept(stream, behaviour, number).await });
            }
        });
        server
    }

    /// What clients said, in order.
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The mails that were accepted.
    pub(super) fn mails(&self) -> Vec<String> {
        self.mails.lock().unwrap().clone()
    }

    async fn accept(&self, stream: TcpStream, behaviour: Behaviour, number: usize) -> Option<()> {
        if let (Some(tls), true) = (&behaviour.tls, behaviour.implicit) {
            let mut stream = BufReader::new(tls.accept(stream).await.ok()?);
            stream.write_all(b"220 ready\r\n").await.ok()?;
            self.converse(&mut stream, &behaviour, number, true).await;
            return Some(());
        }
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 ready\r\n").await.ok()?;
        if self.converse(&mut stream, &behaviour, number, false).await? {
            let mut stream = BufReader::new(behaviour.tls.as_ref()?.accept(stream.into_inner()).await.ok()?);
            self.converse(&mut stream, &behaviour, number, true).await;
        }
        Some(())
    }

    /// Returns true if the client wants to go on with TLS.
    async fn converse(
        &self,
        stream: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>,
        behaviour: &Behaviour,
        number: usize,
        encrypted: bool,
    ) -> Option<bool> {
        loop {
            let line = next(stream).await?;
            self.lines.lock().unwrap().push(line.clone());
            let special = behaviour
                .answers
                .iter()
                .find(|(connection, beginning, _)| *connection == number && line.starts_with(beginning));
            let answer = match (special, line.as_str()) {
                (Some((_, _, answer)), _) => answer,
                (None, "STARTTLS") => {
                    stream.write_all(b"220 go\r\n").await.ok()?;
                    return Some(true);
                }
                (None, "DATA") => {
                    stream.write_all(b"354 go\r\n").await.ok()?;
                    let mail = self.data(stream).await?;
                    let refusal = behaviour
                        .refusals
                        .iter()
                        .find(|(largest, _)| mail.len() > *largest)
                        .map(|(_, answer)| *answer);
                    if refusal.is_none() {
                        self.mails.lock().unwrap().push(mail);
                    }
                    refusal.unwrap_or("250 queued as 42")
                }
                (None, ehlo) if ehlo.starts_with("EHLO") => match (&behaviour.tls, encrypted) {
                    (Some(_), false) => "250-stub\r\n250 STARTTLS",
                    _ => "250-stub\r\n250 AUTH PLAIN LOGIN",
                },
                (None, auth) if auth.starts_with("AUTH") => "235 welcome",
                _ => "250 fine",
            };
            stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
        }
    }

    async fn data(&self, stream: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>) -> Option<String> {
        let mut mail = String::new();
        loop {
            match next(stream).await?.as_str() {
                "." => break,
                line => mail.extend([line, "\n"]),
            }
        }
        Some(mail)
    }
}

async fn next(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Option<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    Some(line.trim_end().to_owned())
}
