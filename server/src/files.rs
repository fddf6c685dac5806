//! Files read under a limit and written so that a crash leaves either the old or the new one.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Reads a whole file of at most `max_bytes`.
///
/// # Errors
/// Names the file, and the limit where it is exceeded.
pub(crate) fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let read = || -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(max_bytes + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max_bytes {
            bail!("the file is larger than {max_bytes} bytes");
        }
        Ok(bytes)
    };
    read().with_context(|| format!("failed to read {}", path.display()))
}

/// Reads a whole UTF-8 file of at most `max_bytes`.
///
/// # Errors
/// As [`read`], and where the file is not UTF-8.
pub(crate) fn read_text(path: &Path, max_bytes: u64) -> Result<String> {
    String::from_utf8(read(path, max_bytes)?)
        .map_err(|_| anyhow::anyhow!("it is not UTF-8 text"))
        .with_context(|| format!("failed to read {}", path.display()))
}

/// Writes a file that only its owner can read, atomically and durably.
///
/// # Errors
/// Names the file.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    write_private_parts(path, &[bytes])
}

/// As [`write_private`], of parts that follow one another.
///
/// # Errors
/// Names the file.
pub(crate) fn write_private_parts(path: &Path, parts: &[&[u8]]) -> Result<()> {
    let write = || -> Result<()> {
        let temporary = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&temporary)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(())
    };
    write().with_context(|| format!("failed to write {}", path.display()))
}
