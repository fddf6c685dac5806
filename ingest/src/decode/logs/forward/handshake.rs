//! What is said before and after messages: HELO, PING and PONG prove to each side that the other knows the shared key,
//! and an acknowledgement says that a chunk is kept.

use bytes::Bytes;

use super::msgpack::{Head, Reader, Stop, write_array, write_bool, write_map, write_text};

/// `["HELO", {"nonce": …, "auth": "", "keepalive": true}]`
#[must_use]
pub fn helo(nonce: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_array(2, &mut out);
    write_text(b"HELO", &mut out);
    write_map(3, &mut out);
    write_text(b"nonce", &mut out);
    write_text(nonce, &mut out);
    write_text(b"auth", &mut out);
    write_text(b"", &mut out);
    write_text(b"keepalive", &mut out);
    write_bool(true, &mut out);
    out
}

/// What the client answers to HELO: `["PING", host, salt, digest, user, password]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// What the client calls itself.
    pub hostname: Vec<u8>,
    /// Random bytes of the client.
    pub salt: Vec<u8>,
    /// SHA-512 of salt, host name, nonce and shared key, in hexadecimal digits.
    pub digest: Vec<u8>,
}

impl Ping {
    /// Reads one whole message; none if it is another one.
    #[must_use]
    pub fn parse(message: &Bytes) -> Option<Self> {
        Self::read(message).ok().flatten()
    }

    fn read(message: &Bytes) -> Result<Option<Self>, Stop> {
        let mut reader = Reader::new(message);
        let Head::Array(6) = reader.head()? else { return Ok(None) };
        if reader.text()? != Some(b"PING") {
            return Ok(None);
        }
        let mut text = || reader.text().map(|text| text.map(<[u8]>::to_vec));
        let (Some(hostname), Some(salt), Some(digest)) = (text()?, text()?, text()?) else { return Ok(None) };
        Ok(Some(Self { hostname, salt, digest }))
    }
}

/// `["PONG", accepted, reason, host, digest]`
#[must_use]
pub fn pong(refused: Option<&str>, hostname: &str, digest: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_array(5, &mut out);
    write_text(b"PONG", &mut out);
    write_bool(refused.is_none(), &mut out);
    for text in [refused.unwrap_or_default(), hostname, digest] {
        write_text(text.as_bytes(), &mut out);
    }
    out
}

/// `{"ack": chunk}`
#[must_use]
pub fn ack(chunk: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_map(1, &mut out);
    write_text(b"ack", &mut out);
    write_text(chunk, &mut out);
    out
}
