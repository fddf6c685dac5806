//! Bearer tokens and what they allow.
//!
//! A token reads `wb_ID_SECRET`. `DATA_DIR/tokens.json` keeps the SHA-256 of the secret (it has 256 random
//! bits, so a slow hash would add nothing). The command line changes that file while the server runs; the
//! server looks at it at most once a second.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use watchbell_event::Timestamp;

use crate::files;

const MAX_FILE_BYTES: u64 = 16 << 20;
const MAX_TOKENS: usize = 10_000;
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

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// Who sent a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) token_id: String,
    pub(crate) scopes: Vec<Scope>,
}

impl Caller {
    pub(crate) fn may(&self, wanted: &Scope) -> bool {
        self.scopes.iter().any(|scope| scope.allows(wanted))
    }
}

/// The token file, as the command line changes it.
pub(crate) struct TokenFile {
    path: PathBuf,
    lock_path: PathBuf,
}

impl TokenFile {
    pub(crate) fn in_data_dir(data_dir: &Path) -> Self {
        Self { path: data_dir.join("tokens.json"), lock_path: data_dir.join("tokens.lock") }
    }

    pub(crate) fn read(&self) -> Result<Vec<Token>> {
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        let bytes = files::read(&self.path, MAX_FILE_BYTES)?;
        serde_json::from_slice(&bytes).with_context(|| format!("failed to read {}", self.path.display()))
    }

    /// Makes a token and returns its text, which is shown once and kept nowhere.
    pub(crate) fn create(&self, name: &str, scopes: Vec<Scope>, now: Timestamp) -> Result<(Token, String)> {
        let mut random = [0; 40];
        getrandom::fill(&mut random).context("failed to get random bytes from the operating system")?;
        let id = random[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let secret = URL_SAFE_NO_PAD.encode(&random[8..]);
        let token = Token {
            id: id.clone(),
            name: name.to_owned(),
            scopes,
            secret_sha256: hash(&secret),
            created_at: now,
            revoked_at: None,
        };
        self.change(|tokens| {
            if tokens.len() >= MAX_TOKENS {
                bail!("there are already {MAX_TOKENS} tokens; revoke some first");
            }
            tokens.push(token.clone());
            Ok(())
        })?;
        Ok((token, format!("wb_{id}_{secret}")))
    }

    /// Revokes the token with this id.
    pub(crate) fn revoke(&self, id: &str, now: Timestamp) -> Result<Token> {
        let mut revoked = None;
        self.change(|tokens| {
            let Some(token) = tokens.iter_mut().find(|token| token.id == id) else {
                bail!("no token has the id {id:?}; `watchbell token list` shows them");
            };
            token.revoked_at.get_or_insert(now);
            revoked = Some(token.clone());
            Ok(())
        })?;
        revoked.context("no token was revoked")
    }

    /// Changes the file under a lock, so that two commands at once lose nothing.
    fn change(&self, change: impl FnOnce(&mut Vec<Token>) -> Result<()>) -> Result<()> {
        let lock = std::fs::File::create(&self.lock_path)
            .with_context(|| format!("failed to open {}", self.lock_path.display()))?;
        lock.lock().with_context(|| format!("failed to lock {}", self.lock_path.display()))?;
        let mut tokens = self.read()?;
        change(&mut tokens)?;
        let mut text = serde_json::to_vec_pretty(&tokens)?;
        text.push(b'\n');
        files::write_private(&self.path, &text)
    }
}

/// The tokens as the server sees them.
pub(crate) struct Tokens {
    file: TokenFile,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    looked_at: Option<Instant>,
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
        if state.looked_at.is_none_or(|looked_at| looked_at.elapsed() >= LOOK_EVERY) {
            self.reload_or_keep(&mut state);
        }
        let known = state.tokens.get(id)?;
        let same: bool = hash(secret).as_bytes().ct_eq(known.secret_sha256.as_bytes()).into();
        (same && known.revoked_at.is_none())
            .then(|| Caller { token_id: known.id.clone(), scopes: known.scopes.clone() })
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
        let stamp =
            std::fs::metadata(&self.file.path).and_then(|file| Ok((file.modified()?, file.len()))).ok();
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

fn hash(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(secret.as_bytes()))
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
    fn the_file_holds_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let (_, text) = TokenFile::in_data_dir(dir.path()).create("x", vec![Scope::Admin], now()).unwrap();
        let secret = text.splitn(3, '_').nth(2).unwrap();
        let stored = files::read_text(&dir.path().join("tokens.json"), 1 << 20).unwrap();
        assert!(!stored.contains(secret));
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
