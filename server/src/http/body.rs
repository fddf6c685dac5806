//! Request bodies, read under three limits: the size of one, the bytes of all being worked on at one time,
//! and the time one may take.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;

/// An API server gives up after 30 s.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const UNIT_BYTES: u64 = 4 << 10;
const MAX_JSON_BYTES: usize = 64 << 10;
/// Memory is set aside for a body that announces its length, up to this; most bodies then need no copying.
const MAX_RESERVED_BYTES: u64 = 1 << 20;

/// Room for the bytes of bodies in flight, shared by all requests.
pub(crate) struct Budget {
    room: Arc<Semaphore>,
}

/// A share of the budget, given back when dropped.
#[derive(Default)]
pub(crate) struct Share {
    bytes: u64,
    permits: Option<OwnedSemaphorePermit>,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        let units = usize::try_from(bytes / UNIT_BYTES).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { room: Arc::new(Semaphore::new(units)) }
    }

    /// Makes the share cover `bytes`.
    ///
    /// # Errors
    /// 429 if there is no room.
    pub(crate) fn grow(&self, share: &mut Share, bytes: u64) -> Result<(), ApiError> {
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
        share.bytes = share.bytes.max(bytes);
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
) -> Result<(Bytes, Share), ApiError> {
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
    // Grows with what arrives: a length that is only announced takes no room from others.
    let mut share = Share::default();
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
            budget.grow(&mut share, length)?;
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.freeze())
    };
    match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(bytes) => Ok((bytes?, share)),
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

    #[test]
    fn a_budget_refuses_what_does_not_fit_and_gets_back_what_is_dropped() {
        let budget = Budget::new(64 << 10);
        let mut first = Share::default();
        budget.grow(&mut first, 60 << 10).unwrap();
        let mut second = Share::default();
        let refused = budget.grow(&mut second, 8 << 10).unwrap_err();
        assert_eq!((refused.status, refused.retry_after_seconds), (StatusCode::TOO_MANY_REQUESTS, Some(1)));
        drop(first);
        budget.grow(&mut second, 8 << 10).unwrap();
        budget.grow(&mut second, 64 << 10).unwrap();
        assert!(budget.grow(&mut second, 65 << 10).is_err());
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_whether_announced_or_not() {
        let budget = Budget::new(1 << 20);
        let mut announced = HeaderMap::new();
        announced.insert(header::CONTENT_LENGTH, 11.into());
        for headers in [announced, HeaderMap::new()] {
            let refused = read(&headers, Body::from("12345678901"), 10, &budget).await.err().unwrap();
            assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
        }
        let (bytes, _share) = read(&HeaderMap::new(), Body::from("1234567890"), 10, &budget).await.unwrap();
        assert_eq!(bytes, "1234567890");
    }

    #[tokio::test]
    async fn a_length_that_is_only_announced_takes_no_room() {
        let budget = Budget::new(64 << 10);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, (64 << 10).into());
        let (_bytes, _share) = read(&headers, Body::from("1"), 1 << 20, &budget).await.unwrap();
        let mut other = Share::default();
        budget.grow(&mut other, 32 << 10).unwrap();
    }
}
