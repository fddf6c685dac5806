//! Bearer tokens and what they allow.
//!
//! A token reads `wb_ID_SECRET`. `DATA_DIR/tokens.json` keeps the SHA-256 of the secret (it has 256 random
//! bits, so a slow hash would add nothing). The command line and the server both change that file, under the
//! lock `tokens.lock`; the server looks at it at most once a second.

mod file;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use watchbell_event::Timestamp;

use self::file::hash;

pub(crate) use self::file::TokenFile;

const MAX_TOKENS: usize = 10_000;
const MAX_NAME_CHARS: usize = 100;
const MAX_SCOPES: usize = 100;
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a token's holder may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// Send events of this cluster.
    Ingest {
        /// The cluster's name.
        cluster: String,
    },
    /// Search events and read alerts.
    Read,
    /// Everything.
    Admin,
}

impl Scope {
    /// Reads `read`, `admin` or `ingest:CLUSTER`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match (text, text.strip_prefix("ingest:")) {
            ("read", _) => Ok(Self::Read),
            ("admin", _) => Ok(Self::Admin),
            (_, Some(cluster)) => {
                check_cluster_name(cluster)?;
                Ok(Self::Ingest { cluster: cluster.to_owned() })
            }
            _ => bail!("unknown scope {text:?}; known: read, admin, ingest:CLUSTER"),
        }
    }

    /// True if this scope includes `wanted`.
    pub(crate) fn allows(&self, wanted: &Self) -> bool {
        *self == Self::Admin || self == wanted
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ingest { cluster } => write!(f, "ingest:{cluster}"),
            Self::Read => f.write_str("read"),
            Self::Admin => f.write_str("admin"),
        }
    }
}

/// A cluster's name: 1 to 63 letters, digits, `.`, `_` or `-`, as it stands in a URL path.
pub(crate) fn check_cluster_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > 63 || !name.bytes().all(allowed) || name.starts_with('.') {
        bail!("a cluster name is 1 to 63 letters, digits, '.', '_' or '-', and does not begin with '.'");
    }
    if name == crate::self_audit::CLUSTER {
        bail!("the cluster name {name:?} is taken by this server's own audit events");
    }
    Ok(())
}

/// Reads a cluster's name.
///
/// # Errors
/// As [`check_cluster_name`].
pub(crate) fn parse_cluster_name(text: &str) -> Result<String> {
    check_cluster_name(text).map(|()| text.to_owned())
}

/// One token as it is stored; the secret itself is not.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) scopes: Vec<Scope>,
    /// Base64url of the SHA-256 of the secret.
    pub(crate) secret_sha256: String,
    pub(crate) created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revoked_at: Option<Timestamp>,
}

impl Token {
    /// Who sends it.
    fn holder(&self) -> Caller {
        let credential = Credential::Token { id: self.id.clone(), name: self.name.clone() };
        Caller { credential, scopes: self.scopes.clone() }
    }

    /// What anybody may see who may list tokens: all but the hash.
    pub(crate) fn summary(&self) -> Value {
        let scopes: Vec<String> = self.scopes.iter().map(ToString::to_string).collect();
        json!({
            "id": self.id, "name": self.name, "scopes": scopes, "created_at": self.created_at,
            "revoked_at": self.revoked_at,
        })
    }
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) credential: Credential,
    pub(crate) scopes: Vec<Scope>,
}

/// What a caller showed to be known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Credential {
    /// A bearer token.
    Token { id: String, name: String },
    /// A client certificate, by its names.
    Certificate(String),
    /// Nothing but the address that it sends from.
    Address(IpAddr),
    /// Not even that: the address of a datagram is whatever its sender has written there.
    Datagram,
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { id, name } => write!(f, "token {id} ({name})"),
            Self::Certificate(names) => write!(f, "certificate {names}"),
            Self::Address(address) => write!(f, "address {address}"),
            Self::Datagram => f.write_str("datagram"),
        }
    }
}

impl Caller {
    pub(crate) fn may(&self, wanted: &Scope) -> bool {
        self.scopes.iter().any(|scope| scope.allows(wanted))
    }
}

/// Checks what a new token is to be called and what it is to allow, as it was written.
///
/// # Errors
/// What is wrong, for the person who asked.
pub(crate) fn check_new_token(name: &str, scopes: &[String]) -> Result<Vec<Scope>> {
    let scopes = scopes.iter().map(|scope| Scope::parse(scope)).collect::<Result<Vec<_>>>()?;
    check_token(name, &scopes)?;
    Ok(scopes)
}

/// Checks what a new token is to be called and how much it is to allow.
///
/// # Errors
/// What is wrong, for the person who asked.
pub(crate) fn check_token(name: &str, scopes: &[Scope]) -> Result<()> {
    let length = name.chars().count();
    if name.trim().is_empty() || length > MAX_NAME_CHARS || name.chars().any(char::is_control) {
        bail!("the name of a token is a line of 1 to {MAX_NAME_CHARS} characters that says what it is for");
    }
    if scopes.is_empty() || scopes.len() > MAX_SCOPES {
        bail!("a token has 1 to {MAX_SCOPES} scopes: read, admin, ingest:CLUSTER");
    }
    Ok(())
}

/// The tokens as the server sees them.
pub(crate) struct Tokens {
    file: TokenFile,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    looked_at: Option<Instant>,
    /// The file as it was then, readable or not.
    seen: Option<(SystemTime, u64)>,
    /// The file as it was when it was read.
    stamp: Option<(SystemTime, u64)>,
    tokens: HashMap<String, Token>,
    changes: Vec<TokenChange>,
}

/// What happened to a token since the server last looked.
pub(crate) enum TokenChange {
    Created(Token),
    Revoked(Token),
}

impl Tokens {
    pub(crate) fn open(file: TokenFile) -> Result<Self> {
        let tokens = Self { state: Mutex::default(), file };
        tokens.reload(&mut tokens.lock())?;
        tokens.lock().changes.clear();
        Ok(tokens)
    }

    /// Who holds this token, if it is known and not revoked.
    pub(crate) fn caller(&self, token: &str) -> Option<Caller> {
        let (id, secret) = token.strip_prefix("wb_")?.split_once('_')?;
        let mut state = self.lock();
        // A token that was made a moment ago is known as soon as it is used.
        let is_due = state.looked_at.is_none_or(|looked_at| looked_at.elapsed() >= LOOK_EVERY);
        if is_due || (!state.tokens.contains_key(id) && self.file.stamp() != state.seen) {
            self.reload_or_keep(&mut state);
        }
        let known = state.tokens.get(id)?;
        let same: bool = hash(secret).as_bytes().ct_eq(known.secret_sha256.as_bytes()).into();
        (same && known.revoked_at.is_none()).then(|| known.holder())
    }

    /// All tokens, the oldest first.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn list(&self) -> Result<Vec<Token>> {
        self.file.read()
    }

    /// Makes a token for somebody who records that, so that it is no change to be found here. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// As [`TokenFile::create`].
    pub(crate) fn create(&self, name: &str, scopes: Vec<Scope>, now: Timestamp) -> Result<(Token, String)> {
        let mut state = self.lock();
        let (token, text) = self.file.create(name, scopes, now)?;
        state.tokens.insert(token.id.clone(), token.clone());
        Ok((token, text))
    }

    /// Revokes a token, if there is one with this id, likewise.
    ///
    /// # Errors
    /// As [`TokenFile::revoke`].
    pub(crate) fn revoke(&self, id: &str, now: Timestamp) -> Result<Option<Token>> {
        let mut state = self.lock();
        let revoked = self.file.revoke(id, now)?;
        if let Some(token) = &revoked {
            state.tokens.insert(token.id.clone(), token.clone());
        }
        Ok(revoked)
    }

    /// Looks at the file again and returns all changes not returned before.
    pub(crate) fn take_changes(&self) -> Vec<TokenChange> {
        let mut state = self.lock();
        self.reload_or_keep(&mut state);
        std::mem::take(&mut state.changes)
    }

    fn reload_or_keep(&self, state: &mut State) {
        if let Err(error) = self.reload(state) {
            tracing::error!(error = format!("{error:#}"), "failed to reload tokens; the old ones stay valid");
        }
    }

    fn reload(&self, state: &mut State) -> Result<()> {
        state.looked_at = Some(Instant::now());
        let stamp = self.file.stamp();
        state.seen = stamp;
        if stamp.is_some() && stamp == state.stamp {
            return Ok(());
        }
        let tokens: HashMap<_, _> =
            self.file.read()?.into_iter().map(|token| (token.id.clone(), token)).collect();
        for token in tokens.values() {
            let known = state.tokens.get(&token.id);
            if known.is_none() && token.revoked_at.is_none() {
                state.changes.push(TokenChange::Created(token.clone()));
            }
            if known.is_some_and(|known| known.revoked_at.is_none()) && token.revoked_at.is_some() {
                state.changes.push(TokenChange::Revoked(token.clone()));
            }
        }
        state.changes.truncate(MAX_TOKENS);
        (state.tokens, state.stamp) = (tokens, stamp);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000)
    }

    #[test]
    fn a_token_works_until_it_is_revoked_and_only_for_its_scopes() {
        let dir = tempfile::tempdir().unwrap();
        let file = TokenFile::in_data_dir(dir.path());
        let scopes = vec![Scope::parse("ingest:prod").unwrap(), Scope::Read];
        let (token, text) = file.create("prod api server", scopes, now()).unwrap();
        let tokens = Tokens::open(TokenFile::in_data_dir(dir.path())).unwrap();

        let caller = tokens.caller(&text).unwrap();
        for (wanted, expect) in
            [("ingest:prod", true), ("ingest:test", false), ("read", true), ("admin", false)]
        {
            assert_eq!(caller.may(&Scope::parse(wanted).unwrap()), expect, "{wanted}");
        }
        let forged = format!("wb_{}_{}", token.id, "A".repeat(43));
        for wrong in [&forged, "", "wb_", "wb__", &text[..text.len() - 1], &text[3..]] {
            assert!(tokens.caller(wrong).is_none(), "{wrong}");
        }

        file.revoke(&token.id, now()).unwrap();
        let changes = tokens.take_changes();
        assert!(matches!(changes.as_slice(), [TokenChange::Revoked(revoked)] if revoked.id == token.id));
        assert!(tokens.caller(&text).is_none());
    }

    #[test]
    fn what_the_server_does_itself_is_in_force_at_once_and_no_change_to_be_found() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(TokenFile::in_data_dir(dir.path())).unwrap();
        let (token, text) = tokens.create("grafana", vec![Scope::Read], now()).unwrap();
        assert!(tokens.caller(&text).is_some());
        assert!(tokens.take_changes().is_empty());
        // The command line sees it, and what it does beside is found, at once when it is used.
        let file = TokenFile::in_data_dir(dir.path());
        let (other, other_text) = file.create("other", vec![Scope::Read], now()).unwrap();
        assert!(tokens.caller(&other_text).is_some());
        assert_eq!(tokens.list().unwrap().len(), 2);
        assert_eq!(tokens.revoke(&token.id, now()).unwrap().unwrap().revoked_at, Some(now()));
        assert!(tokens.caller(&text).is_none());
        let changes = tokens.take_changes();
        assert!(matches!(changes.as_slice(), [TokenChange::Created(created)] if created.id == other.id));
        assert!(tokens.revoke("unknown", now()).unwrap().is_none());
    }

    #[test]
    fn names_and_scopes_of_new_tokens_are_checked() {
        let check = |name: &str, scopes: &[&str]| {
            let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
            check_new_token(name, &scopes).map_err(|error| error.to_string())
        };
        assert_eq!(check("grafana", &["read"]), Ok(vec![Scope::Read]));
        for (name, scopes, reason) in [
            (" ", &["read"][..], "the name of a token"),
            ("a\nb", &["read"], "the name of a token"),
            (&"x".repeat(101), &["read"], "the name of a token"),
            ("x", &[], "a token has 1 to 100 scopes"),
            ("x", &["write"], "unknown scope \"write\""),
        ] {
            assert!(check(name, scopes).unwrap_err().contains(reason), "{name:?} {scopes:?}");
        }
    }

    #[test]
    fn cluster_names_that_would_not_survive_a_url_are_refused() {
        for good in ["prod", "eu-west-1.prod_2"] {
            assert!(check_cluster_name(good).is_ok(), "{good}");
        }
        for bad in ["", "..", ".hidden", "a/b", "a b", "ä", "watchbell", &"x".repeat(64)] {
            assert!(check_cluster_name(bad).is_err(), "{bad}");
        }
    }
}
