//! OpenTelemetry's log records: `POST /v1/logs` with Protocol Buffers or JSON, and the same over gRPC.
//! <https://opentelemetry.io/docs/specs/otlp/>
//!
//! gRPC is done by hand: of it, one call with one message each way is needed, which is five bytes before the message
//! and a trailer after it (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>). A framework would bring
//! a second server beside the one that bounds bodies, bytes in flight and quotas.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::json;
use watchbell_ingest::decode::logs::OtlpForm;

use super::App;
use super::clusters::Clusters;
use super::error::ApiError;
use super::ingest::{self, Incoming, Packing};
use super::listener::Peer;
use crate::pipeline::{Compression, Ingested, Payload};
use crate::sources::Source;
use crate::tokens::Caller;

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// `POST /v1/logs`
pub(super) async fn http(
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let cluster = Clusters::of(&caller, &headers)?.only()?;
    let form = form(&headers)?;
    let sent = Sent { cluster, caller, peer, form, packing: Packing::of(&headers), body };
    let ingested = take(&app, sent, &headers).await?;
    Ok(match form {
        OtlpForm::Protobuf => {
            ([(header::CONTENT_TYPE, PROTOBUF)], partial_success(&ingested)).into_response()
        }
        OtlpForm::Json => {
            let answer = match ingested.rejected {
                0 => json!({}),
                rejected => json!({ "partialSuccess": {
                    "rejectedLogRecords": rejected.to_string(), "errorMessage": REJECTED } }),
            };
            ([(header::CONTENT_TYPE, JSON)], answer.to_string()).into_response()
        }
    })
}

/// `opentelemetry.proto.collector.logs.v1.LogsService/Export`
pub(super) async fn grpc(
    State(app): State<Arc<App>>,
    caller: Result<Caller, ApiError>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let exported = async {
        let caller = caller?;
        let cluster = Clusters::of(&caller, &headers)?.only()?;
        let (form, packing) = (OtlpForm::Protobuf, grpc_packing(&headers));
        take(&app, Sent { cluster, caller, peer, form, packing, body }, &headers).await
    };
    let (answer, status) = match exported.await {
        Ok(ingested) => (grpc_message(&partial_success(&ingested)), (GRPC_OK, String::new())),
        Err(error) => (Bytes::new(), (grpc_status(&error), error.message)),
    };
    // a status may come in trailers only, or, where nothing else comes, as a header
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(status.0));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&status.1)) {
        trailers.insert("grpc-message", message);
    }
    let mut response = if answer.is_empty() {
        let mut response = Response::new(Body::empty());
        response.headers_mut().extend(trailers);
        response
    } else {
        let body = Full::new(answer).with_trailers(async { Some(Ok::<_, Infallible>(trailers)) });
        Response::new(Body::new(body))
    };
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
    response
}

/// A request's body, and what it is.
struct Sent {
    cluster: String,
    caller: Caller,
    peer: Peer,
    body: Body,
    form: OtlpForm,
    /// Or why it cannot be unpacked.
    packing: Result<Packing, ApiError>,
}

async fn take(app: &App, sent: Sent, headers: &HeaderMap) -> Result<Ingested, ApiError> {
    let Sent { cluster, caller, peer: Peer(peer), body, form, packing } = sent;
    let payload = Payload::Otlp { form, delivery: ingest::delivery(headers) };
    let source = Source { cluster, route: payload.source().into(), credential: Some(caller.credential) };
    let incoming = Incoming { peer, history: false, headers, packing, body, payload };
    ingest::receive(app, &source, incoming).await
}

fn form(headers: &HeaderMap) -> Result<OtlpForm, ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/x-protobuf" => Ok(OtlpForm::Protobuf),
        "application/json" => Ok(OtlpForm::Json),
        other => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "bad_content_type",
            format!("content-type {other:?} is not OTLP's; known: application/x-protobuf, application/json"),
        )),
    }
}

const REJECTED: &str = "some records could not be read and are in quarantine (watchbell quarantine list)";

/// An `ExportLogsServiceResponse`: empty, or field 1 with how many records were rejected and why.
fn partial_success(ingested: &Ingested) -> Bytes {
    if ingested.rejected == 0 {
        return Bytes::new();
    }
    let mut partial = vec![0x08];
    varint(ingested.rejected as u64, &mut partial);
    partial.push(0x12);
    varint(REJECTED.len() as u64, &mut partial);
    partial.extend_from_slice(REJECTED.as_bytes());
    let mut response = vec![0x0a];
    varint(partial.len() as u64, &mut response);
    response.extend_from_slice(&partial);
    response.into()
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

const GRPC_OK: u16 = 0;
const GRPC_FRAME_HEAD: usize = 5;

/// A message behind the byte that says whether it is compressed, and its length.
fn grpc_message(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), message].concat().into()
}

/// The one message of a call, and whether it is compressed.
pub(super) fn grpc_unframed(body: &Bytes) -> Result<(Bytes, bool), ApiError> {
    let malformed = || ApiError::bad_request("bad_body", "not one message in gRPC's framing");
    let head: &[u8; GRPC_FRAME_HEAD] = body.first_chunk().ok_or_else(malformed)?;
    let message = body.slice(GRPC_FRAME_HEAD..);
    let [compressed, length @ ..] = *head;
    if compressed > 1 || u32::from_be_bytes(length) as usize != message.len() {
        return Err(malformed());
    }
    Ok((message, compressed == 1))
}

fn grpc_packing(headers: &HeaderMap) -> Result<Packing, ApiError> {
    let encoding = headers.get("grpc-encoding").and_then(|encoding| encoding.to_str().ok());
    match encoding.unwrap_or("identity") {
        "identity" => Ok(Packing::Grpc(None)),
        "gzip" => Ok(Packing::Grpc(Some(Compression::Gzip))),
        "zstd" => Ok(Packing::Grpc(Some(Compression::Zstd))),
        other => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "bad_encoding",
            format!("grpc-encoding {other:?} is not supported; known: gzip, zstd, identity"),
        )),
    }
}

/// gRPC's status for an answer. What passes is UNAVAILABLE, which every exporter tries again;
/// RESOURCE_EXHAUSTED, the name for too much, most of them do not.
fn grpc_status(error: &ApiError) -> u16 {
    match error.status {
        StatusCode::UNAUTHORIZED => 16,
        StatusCode::FORBIDDEN => 7,
        StatusCode::PAYLOAD_TOO_LARGE => 8,
        StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::MISDIRECTED_REQUEST => 12,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT => 14,
        status if status.is_client_error() => 3,
        _ => 13,
    }
}

/// `grpc-message` holds printable ASCII; the rest is percent-encoded.
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_says_how_many_were_rejected() {
        assert_eq!(partial_success(&Ingested::default()), "");
        let some = partial_success(&Ingested { rejected: 300, ..Ingested::default() });
        assert_eq!(some[..6], [0x0a, u8::try_from(some.len() - 2).unwrap(), 0x08, 0xac, 0x02, 0x12]);
        assert!(some.ends_with(REJECTED.as_bytes()));
    }

    #[test]
    fn a_call_holds_exactly_one_message() {
        let framed = grpc_message(b"abc");
        assert_eq!(grpc_unframed(&framed).unwrap(), (Bytes::from("abc"), false));
        for bad in [&b""[..], b"\0\0\0\0", b"\x02\0\0\0\0", b"\0\0\0\0\x04abc", b"\0\0\0\0\x02abc"] {
            assert!(grpc_unframed(&Bytes::from(bad)).is_err(), "{bad:?}");
        }
        assert_eq!(percent_encoded("100 % of é\n"), "100 %25 of %C3%A9%0A");
    }
}
