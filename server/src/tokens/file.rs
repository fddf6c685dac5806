//! `tokens.json`, which the command line and the server both change.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use watchbell_event::Timestamp;

use super::{MAX_TOKENS, Scope, Token};
use crate::files;

const MAX_FILE_BYTES: u64 = 16 << 20;
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// The token file. Every change is made under a lock.
pub(crate) struct TokenFile {
    path: PathBuf,
    lock_path: PathBuf,
}

impl TokenFile {
    pub(crate) fn in_data_dir(data_dir: &Path) -> Self {
        Self { path: data_dir.join("tokens.json"), lock_path: data_dir.join("tokens.lock") }
    }

    /// Changes when somebody changed the file; nothing while there is none.
    pub(super) fn stamp(&self) -> Option<(SystemTime, u64)> {
        std::fs::metadata(&self.path).and_then(|file| Ok((file.modified()?, file.len()))).ok()
    }

    pub(crate) fn read(&self) -> Result<Vec<Token>> {
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        let bytes = files::read(&self.path, MAX_FILE_BYTES)?;
        serde_json::from_slice(&bytes).with_context(|| format!("failed to read {}", self.path.display()))
    }

    /// Makes a token and returns its text, which is shown once and kept nowhere.
    ///
    /// # Errors
    /// If there are too many that are not revoked, or the file cannot be changed.
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
            if tokens.len() >= MAX_TOKENS && !forget_oldest_revoked(tokens) {
                bail!("there are already {MAX_TOKENS} tokens; revoke some first");
            }
            tokens.push(token.clone());
            Ok(())
        })?;
        Ok((token, format!("wb_{id}_{secret}")))
    }

    /// Revokes the token with this id, if there is one. One that was revoked before stays as it is.
    ///
    /// # Errors
    /// If the file cannot be changed.
    pub(crate) fn revoke(&self, id: &str, now: Timestamp) -> Result<Option<Token>> {
        let mut revoked = None;
        self.change(|tokens| {
            if let Some(token) = tokens.iter_mut().find(|token| token.id == id) {
                token.revoked_at.get_or_insert(now);
                revoked = Some(token.clone());
            }
            Ok(())
        })?;
        Ok(revoked)
    }

    /// Changes the file under a lock, so that two commands at once lose nothing.
    fn change(&self, change: impl FnOnce(&mut Vec<Token>) -> Result<()>) -> Result<()> {
        let lock = File::create(&self.lock_path)
            .with_context(|| format!("failed to open {}", self.lock_path.display()))?;
        wait_for_lock(&lock).with_context(|| format!("failed to lock {}", self.lock_path.display()))?;
        let mut tokens = self.read()?;
        change(&mut tokens)?;
        let mut text = serde_json::to_vec_pretty(&tokens)?;
        text.push(b'\n');
        files::write_private(&self.path, &text)
    }
}

/// Whoever holds the lock has it for a moment only. One that was stopped in that moment must hold up nobody.
fn wait_for_lock(file: &File) -> Result<()> {
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if started.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes room for one more; false if no token is revoked.
fn forget_oldest_revoked(tokens: &mut Vec<Token>) -> bool {
    let revoked = tokens.iter().enumerate().filter_map(|(index, token)| Some((token.revoked_at?, index)));
    let Some((_, index)) = revoked.min() else { return false };
    tokens.remove(index);
    true
}

/// What the file keeps of a secret.
pub(super) fn hash(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(secret.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000)
    }

    #[test]
    fn a_lock_that_is_never_given_back_is_not_waited_for_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let held = File::create(dir.path().join("tokens.lock")).unwrap();
        held.lock().unwrap();
        let file = TokenFile::in_data_dir(dir.path());
        let error = file.create("x", vec![Scope::Read], now()).unwrap_err();
        assert!(format!("{error:#}").contains("tokens.lock"), "{error:#}");
        drop(held);
        file.create("x", vec![Scope::Read], now()).unwrap();
    }

    #[test]
    fn a_full_file_forgets_revoked_tokens_first() {
        let token = |id: &str, revoked_at| Token {
            id: id.to_owned(),
            name: "x".to_owned(),
            scopes: Vec::new(),
            secret_sha256: String::new(),
            created_at: now(),
            revoked_at,
        };
        let mut tokens = vec![
            token("active", None),
            token("later", Some(now().plus_micros(1))),
            token("first", Some(now())),
        ];
        for left in [&["active", "later"][..], &["active"]] {
            assert!(forget_oldest_revoked(&mut tokens));
            assert_eq!(tokens.iter().map(|token| token.id.as_str()).collect::<Vec<_>>(), left);
        }
        assert!(!forget_oldest_revoked(&mut tokens));
    }

    #[test]
    fn the_file_holds_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let (_, text) = TokenFile::in_data_dir(dir.path()).create("x", vec![Scope::Admin], now()).unwrap();
        let secret = text.splitn(3, '_').nth(2).unwrap();
        let stored = files::read_text(&dir.path().join("tokens.json"), 1 << 20).unwrap();
        assert!(!stored.contains(secret));
    }
}
