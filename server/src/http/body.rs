//! Request bodies, read under three limits: the size of one, the bytes of all being worked on at one time,
//! and the time one may take.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;
use crate::sources::Source;

/// An API server gives up after 30 s.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const UNIT_BYTES: u64 = 4 << 10;
const MAX_JSON_BYTES: usize = 64 << 10;
/// Memory is set aside for a body that announces its length, up to this; most bodies then need no copying.
const MAX_RESERVED_BYTES: u64 = 1 << 20;

/// Room for the bytes of bodies in flight, shared by all requests, of which one source has a part at most.
pub(crate) struct Budget {
    room: Arc<Semaphore>,
    per_source_bytes: u64,
    /// What sources have at the moment; those that have nothing are absent.
    held: Arc<Mutex<HashMap<Source, u64>>>,
}

/// A source's share of the budget for one request, given back when dropped.
pub(crate) struct Share {
    source: Source,
    held: Arc<Mutex<HashMap<Source, u64>>>,
    bytes: u64,
    permits: Option<OwnedSemaphorePermit>,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = held.get_mut(&self.source) {
            *bytes = bytes.saturating_sub(self.bytes);
            if *bytes == 0 {
                held.remove(&self.source);
            }
        }
    }
}

impl Budget {
    pub(crate) fn new(bytes: u64, per_source_bytes: u64) -> Self {
        let units = usize::try_from(bytes / UNIT_BYTES).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { room: Arc::new(Semaphore::new(units)), per_source_bytes, held: Arc::default() }
    }

    /// A share of nothing yet.
    pub(crate) fn share(&self, source: &Source) -> Share {
        Share { source: source.clone(), held: Arc::clone(&self.held), bytes: 0, permits: None }
    }

    /// Makes the share cover `bytes`.
    ///
    /// # Errors
    /// 429 if there is no room, or the source has its part.
    pub(crate) fn grow(&self, share: &mut Share, bytes: u64) -> Result<(), ApiError> {
        let more = bytes.saturating_sub(share.bytes);
        if more == 0 {
            return Ok(());
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let of_source = held.get(&share.source).copied().unwrap_or_default() + more;
        if of_source > self.per_source_bytes {
            metrics::counter!("watchbell_ingest_refused_total", "reason" => "in_flight_source").increment(1);
            return Err(ApiError::slow_down(
                "in_flight_limit",
                "this source has too many bytes in flight (ingest.in_flight_per_source); send it again",
                1,
            ));
        }
        let wanted = bytes.div_ceil(UNIT_BYTES).saturating_sub(share.bytes.div_ceil(UNIT_BYTES));
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let Ok(permits) = Arc::clone(&self.room).try_acquire_many_owned(wanted) else {
            metrics::counter!("watchbell_ingest_refused_total", "reason" => "in_flight").increment(1);
            return Err(ApiError::slow_down(
                "in_flight_limit",
                "too many bytes are in flight; send it again",
                1,
            ));
        };
        match &mut share.permits {
            Some(held) => held.merge(permits),
            none => *none = Some(permits),
        }
        match held.get_mut(&share.source) {
            Some(bytes) => *bytes = of_source,
            None => drop(held.insert(share.source.clone(), of_source)),
        }
        share.bytes = bytes;
        Ok(())
    }
}

/// Reads a whole body of at most `max_bytes`.
///
/// # Errors
/// 413 over the limit, 408 where it takes too long, 429 where the budget has no room.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    max_bytes: u64,
    budget: &Budget,
    share: &mut Share,
) -> Result<Bytes, ApiError> {
    let too_large = || {
        metrics::counter!("watchbell_ingest_refused_total", "reason" => "too_large").increment(1);
        ApiError::too_large(
            "body_too_large",
            format!("the body is larger than {max_bytes} bytes (ingest.max_body)"),
        )
    };
    let announced: Option<u64> =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length| length > max_bytes) {
        return Err(too_large());
    }
    // The share grows with what arrives: a length that is only announced takes no room from others.
    let read = async {
        let mut body = body;
        let expected = announced.unwrap_or(0).min(MAX_RESERVED_BYTES);
        let mut bytes = BytesMut::with_capacity(usize::try_from(expected).unwrap_or_default());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| cut_off())?;
            let Ok(data) = frame.into_data() else { continue };
            let length = (bytes.len() + data.len()) as u64;
            if length > max_bytes {
                return Err(too_large());
            }
            budget.grow(share, length)?;
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.freeze())
    };
    match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(bytes) => bytes,
        Err(_) => Err(too_slow()),
    }
}

/// Reads a small JSON document, which is what everything but events comes in.
///
/// # Errors
/// 413 over the limit, 408 where it takes too long, 400 where it is not what is asked for.
pub(crate) async fn read_json<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_JSON_BYTES).collect()).await;
    let bytes = match read {
        Ok(Ok(bytes)) => bytes.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body is larger than {MAX_JSON_BYTES} bytes");
            return Err(ApiError::too_large("body_too_large", message));
        }
        Ok(Err(_)) => return Err(cut_off()),
        Err(_) => return Err(too_slow()),
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        ApiError::bad_request("bad_body", format!("the body is not what is expected here: {error}"))
    })
}

fn cut_off() -> ApiError {
    ApiError::bad_request("body_cut_off", "the connection ended before the whole body had arrived")
}

fn too_slow() -> ApiError {
    let message = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Credential;

    fn source(cluster: &str) -> Source {
        let credential = Credential::Certificate(String::new());
        Source { cluster: cluster.to_owned(), route: "audit".into(), credential: Some(credential) }
    }

    #[test]
    fn a_budget_refuses_what_does_not_fit_and_gets_back_what_is_dropped() {
        let budget = Budget::new(64 << 10, 64 << 10);
        let mut first = budget.share(&source("a"));
        budget.grow(&mut first, 60 << 10).unwrap();
        let mut second = budget.share(&source("b"));
        let refused = budget.grow(&mut second, 8 << 10).unwrap_err();
        assert_eq!((refused.status, refused.retry_after_seconds), (StatusCode::TOO_MANY_REQUESTS, Some(1)));
        drop(first);
        budget.grow(&mut second, 8 << 10).unwrap();
        budget.grow(&mut second, 64 << 10).unwrap();
        assert!(budget.grow(&mut second, 65 << 10).is_err());
    }

    #[test]
    fn one_source_does_not_get_all_of_the_budget() {
        let budget = Budget::new(64 << 10, 32 << 10);
        let mut shares = [budget.share(&source("a")), budget.share(&source("a"))];
        for share in &mut shares {
            budget.grow(share, 16 << 10).unwrap();
        }
        let refused = budget.grow(&mut shares[0], 17 << 10).unwrap_err();
        assert!(refused.message.contains("ingest.in_flight_per_source"), "{}", refused.message);
        let mut other = budget.share(&source("b"));
        budget.grow(&mut other, 32 << 10).unwrap();
        drop(shares);
        budget.grow(&mut budget.share(&source("a")), 32 << 10).unwrap();
        drop(other);
        assert!(budget.held.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_whether_announced_or_not() {
        let budget = Budget::new(1 << 20, 1 << 20);
        let mut announced = HeaderMap::new();
        announced.insert(header::CONTENT_LENGTH, 11.into());
        let mut share = budget.share(&source("a"));
        for headers in [announced, HeaderMap::new()] {
            let refused = read(&headers, Body::from("12345678901"), 10, &budget, &mut share).await;
            assert_eq!(refused.unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
        }
        let read = read(&HeaderMap::new(), Body::from("1234567890"), 10, &budget, &mut share).await;
        assert_eq!(read.unwrap(), "1234567890");
    }

    #[tokio::test]
    async fn a_length_that_is_only_announced_takes_no_room() {
        let budget = Budget::new(64 << 10, 64 << 10);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, (64 << 10).into());
        let mut share = budget.share(&source("a"));
        read(&headers, Body::from("1"), 1 << 20, &budget, &mut share).await.unwrap();
        budget.grow(&mut budget.share(&source("b")), 32 << 10).unwrap();
    }
}
