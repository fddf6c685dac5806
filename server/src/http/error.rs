//! The one form in which every endpoint says no.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::roles::Elsewhere;

/// What bodies may be compressed with.
const ENCODINGS: &str = "gzip, zstd";

/// An answer other than success: `{"error":{"code":…,"message":…}}`.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// For programs; never changes its meaning.
    pub(crate) code: &'static str,
    /// For people: what is wrong and what to do.
    pub(crate) message: String,
    pub(crate) retry_after_seconds: Option<u32>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after_seconds: None }
    }

    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn too_large(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, code, message)
    }

    /// Backpressure: the sender should come again.
    pub(crate) fn slow_down(code: &'static str, message: impl Into<String>, seconds: u32) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, code, message);
        Self { retry_after_seconds: Some(seconds.max(1)), ..error }
    }

    pub(crate) fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        Self { retry_after_seconds: Some(5), ..error }
    }

    /// The body is encoded in a way that is not known here.
    pub(crate) fn unknown_encoding(encoding: &str) -> Self {
        let message = format!("content-encoding {encoding:?} is not supported; known: {ENCODINGS}, identity");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_encoding", message)
    }

    /// Something broke here; the details go to the log, not to the client.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something broke here; the server's log says what",
        )
    }
}

impl From<Elsewhere> for ApiError {
    fn from(elsewhere: Elsewhere) -> Self {
        Self::new(StatusCode::MISDIRECTED_REQUEST, "other_process", elsewhere.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": { "code": self.code, "message": self.message } }));
        let mut response = (self.status, body).into_response();
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self.code, "body_too_large" | "body_too_slow" | "in_flight_limit") {
            // The body was not read to its end, so the connection cannot carry another request.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.code == "bad_encoding" {
            response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static(ENCODINGS));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
