use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use super::DataDirArgs;
use super::output::{self, Format};
use crate::clock;
use crate::tokens::{Scope, TokenFile, check_token};

/// What to do with tokens.
#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it; it is shown this one time only.
    Create {
        /// What it is for, such as 'grafana'.
        name: String,
        /// read, admin, or ingest:CLUSTER; may be repeated.
        #[arg(long = "scope", required = true, value_parser = Scope::parse)]
        scopes: Vec<Scope>,
        #[command(flatten)]
        data: DataDirArgs,
    },
    /// List tokens, without their secrets.
    List {
        /// `json` prints one token per line.
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
        #[command(flatten)]
        data: DataDirArgs,
    },
    /// Revoke a token; a running server refuses it within a second.
    Revoke {
        /// The token's id, from `watchbell token list`.
        id: String,
        #[command(flatten)]
        data: DataDirArgs,
    },
}

impl TokenCommand {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Create { name, scopes, data } => {
                check_token(&name, &scopes)?;
                let (token, text) = open(&data)?.create(&name, scopes, clock::now())?;
                output::line(&text)?;
                output::note(&format!("made token {} ({name}); it is not shown again", token.id));
            }
            Self::List { format, data } => list(&open(&data)?, format)?,
            Self::Revoke { id, data } => {
                let Some(token) = open(&data)?.revoke(&id, clock::now())? else {
                    bail!("no token has the id {id:?}; `watchbell token list` shows them");
                };
                output::note(&format!("revoked token {} ({})", token.id, token.name));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(file: &TokenFile, format: Format) -> Result<()> {
    let tokens = file.read()?;
    if format == Format::Json {
        return tokens.iter().try_for_each(|token| output::line(&token.summary().to_string()));
    }
    let scopes = |scopes: &[Scope]| scopes.iter().map(Scope::to_string).collect::<Vec<_>>();
    let rows = tokens.iter().map(|token| {
        let state = token.revoked_at.map_or("active".to_owned(), |at| format!("revoked {at}"));
        let created = token.created_at.to_string();
        vec![token.id.clone(), token.name.clone(), scopes(&token.scopes).join(" "), created, state]
    });
    output::table(&["id", "name", "scopes", "created", "state"], rows.collect())
}

/// The token file of a data directory that exists.
pub(crate) fn open(data: &DataDirArgs) -> Result<TokenFile> {
    if !data.data_dir.is_dir() {
        bail!(
            "there is no data directory {}; name the server's with --data-dir, or start `watchbell serve` once",
            data.data_dir.display()
        );
    }
    let file = TokenFile::in_data_dir(&data.data_dir);
    file.read().context("the token file cannot be used")?;
    Ok(file)
}
