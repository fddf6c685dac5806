//! For which cluster somebody sends where the path does not say it.

use axum::http::HeaderMap;

use super::error::ApiError;
use crate::tokens::{Caller, Scope, check_cluster_name};

const HEADER: &str = "watchbell-cluster";

/// The clusters that a sender may send for, and which of them it has named.
#[derive(Clone, Debug)]
pub(crate) struct Clusters {
    named: Option<String>,
    scopes: Vec<Scope>,
}

impl Clusters {
    /// Of a request, which may name its cluster in the header `Watchbell-Cluster`.
    ///
    /// # Errors
    /// 400 if that is no name, 403 if the caller may not send for it, or for none at all.
    pub(super) fn of(caller: &Caller, headers: &HeaderMap) -> Result<Self, ApiError> {
        let named = headers.get(HEADER).map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
        if let Some(cluster) = &named {
            check_cluster_name(cluster)
                .map_err(|error| ApiError::bad_request("bad_cluster", error.to_string()))?;
            caller.require(&Scope::Ingest { cluster: cluster.clone() })?;
        }
        let may_send = |scope: &Scope| matches!(scope, Scope::Ingest { .. } | Scope::Admin);
        if !caller.scopes.iter().any(may_send) {
            caller.require(&Scope::Ingest { cluster: "CLUSTER".to_owned() })?;
        }
        Ok(Self { named, scopes: caller.scopes.clone() })
    }

    /// This one, whatever an index is called.
    pub(crate) fn just(cluster: &str) -> Self {
        Self { named: Some(cluster.to_owned()), scopes: Vec::new() }
    }

    /// The cluster of a request that names no index.
    ///
    /// # Errors
    /// 400 if it could be for several.
    pub(super) fn only(&self) -> Result<String, ApiError> {
        self.of_index(None).ok_or_else(|| {
            ApiError::bad_request(
                "no_cluster",
                "the token may send for several clusters; name one in the header Watchbell-Cluster",
            )
        })
    }

    /// The cluster that was named, or else the index if that is the name of a cluster that the caller may send for,
    /// or else the only one it may send for.
    pub(crate) fn of_index(&self, index: Option<&str>) -> Option<String> {
        let may = |index: &&str| {
            let wanted = Scope::Ingest { cluster: (*index).to_owned() };
            check_cluster_name(index).is_ok() && self.scopes.iter().any(|scope| scope.allows(&wanted))
        };
        let index = || index.filter(may).map(str::to_owned);
        self.named.clone().or_else(index).or_else(|| match self.scopes.as_slice() {
            [Scope::Ingest { cluster }] => Some(cluster.clone()),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Credential;

    #[test]
    fn the_cluster_is_named_or_is_the_index_or_is_the_only_one() {
        let check = |scopes: &[&str], named: Option<&str>, index: Option<&str>, expect: Option<&str>| {
            let scopes = scopes.iter().map(|scope| Scope::parse(scope).unwrap()).collect();
            let caller = Caller { credential: Credential::Certificate(String::new()), scopes };
            let mut headers = HeaderMap::new();
            if let Some(named) = named {
                headers.insert(HEADER, named.parse().unwrap());
            }
            let found = Clusters::of(&caller, &headers).ok().and_then(|clusters| clusters.of_index(index));
            assert_eq!(found.as_deref(), expect, "{named:?} {index:?}");
        };
        check(&["ingest:prod"], None, None, Some("prod"));
        check(&["ingest:prod"], None, Some("filebeat-8.15.0"), Some("prod"));
        check(&["ingest:prod"], None, Some("test"), Some("prod"));
        check(&["ingest:prod", "ingest:test"], None, Some("test"), Some("test"));
        check(&["ingest:prod", "ingest:test"], None, Some("other"), None);
        check(&["ingest:prod", "ingest:test"], Some("prod"), Some("test"), Some("prod"));
        check(&["ingest:prod"], Some("test"), None, None);
        check(&["admin"], None, Some("any"), Some("any"));
        check(&["admin"], None, Some("watchbell"), None);
        check(&["admin"], None, None, None);
        check(&["read"], None, Some("prod"), None);
    }
}
