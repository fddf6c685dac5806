//! A borrowed view of a Kubernetes audit event: the fields that every stage needs, read in one pass
//! without building a document tree.
//!
//! Source of the format: `audit.k8s.io/v1` and `v1beta1` (`timestamp`, `metadata`) of `k8s.io/apiserver`.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

use crate::{EventId, Facets, Outcome, Timestamp};

/// Text that may be absent.
pub type Text<'a> = Option<Cow<'a, str>>;

/// The hot fields of one audit event. A field that is absent, null or of another type than expected reads
/// as absent, so that a strange event is still stored, searched and matched on its other fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct AuditEvent<'a> {
    /// Chosen by the client if it sends the header `Audit-ID`.
    #[serde(rename = "auditID", borrow, deserialize_with = "text")]
    pub audit_id: Text<'a>,
    /// RequestReceived, ResponseStarted, ResponseComplete or Panic.
    #[serde(borrow, deserialize_with = "text")]
    pub stage: Text<'a>,
    /// Metadata, Request or RequestResponse.
    #[serde(borrow, deserialize_with = "text")]
    pub level: Text<'a>,
    /// get, list, create, …
    #[serde(borrow, deserialize_with = "text")]
    pub verb: Text<'a>,
    /// Path and query of the request.
    #[serde(rename = "requestURI", borrow, deserialize_with = "text")]
    pub request_uri: Text<'a>,
    /// Under the client's control.
    #[serde(rename = "userAgent", borrow, deserialize_with = "text")]
    pub user_agent: Text<'a>,
    /// Who was authenticated; empty on a 401.
    #[serde(borrow, deserialize_with = "object")]
    pub user: User<'a>,
    /// Whom they acted as; absent at stage RequestReceived.
    #[serde(rename = "impersonatedUser", borrow, deserialize_with = "object")]
    pub impersonated_user: User<'a>,
    /// All but the last are under the client's control.
    #[serde(rename = "sourceIPs", borrow, deserialize_with = "texts")]
    pub source_ips: Vec<Cow<'a, str>>,
    /// Absent for requests that name no resource.
    #[serde(rename = "objectRef", borrow, deserialize_with = "object")]
    pub object_ref: ObjectRef<'a>,
    /// Absent before a response exists.
    #[serde(rename = "responseStatus", deserialize_with = "object")]
    pub response_status: ResponseStatus,
    /// Written by authorization and admission.
    #[serde(borrow, deserialize_with = "object")]
    pub annotations: Annotations<'a>,
    /// When the request reached the API server.
    #[serde(rename = "requestReceivedTimestamp", borrow, deserialize_with = "text")]
    pub request_received_timestamp: Text<'a>,
    /// When this stage was reached.
    #[serde(rename = "stageTimestamp", borrow, deserialize_with = "text")]
    pub stage_timestamp: Text<'a>,
    /// Of early v1beta1 events.
    #[serde(borrow, deserialize_with = "text")]
    pub timestamp: Text<'a>,
}

/// `user` and `impersonatedUser`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct User<'a> {
    /// Such as `system:serviceaccount:NAMESPACE:NAME`.
    #[serde(borrow, deserialize_with = "text")]
    pub username: Text<'a>,
    /// Such as `system:masters`.
    #[serde(borrow, deserialize_with = "texts")]
    pub groups: Vec<Cow<'a, str>>,
}

/// `objectRef`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ObjectRef<'a> {
    /// In the plural, such as `secrets`.
    #[serde(borrow, deserialize_with = "text")]
    pub resource: Text<'a>,
    /// Such as `exec` or `token`.
    #[serde(borrow, deserialize_with = "text")]
    pub subresource: Text<'a>,
    /// Absent for resources of the whole cluster.
    #[serde(borrow, deserialize_with = "text")]
    pub namespace: Text<'a>,
    /// Absent for lists and for names the server generates.
    #[serde(borrow, deserialize_with = "text")]
    pub name: Text<'a>,
    /// The object's uid.
    #[serde(borrow, deserialize_with = "text")]
    pub uid: Text<'a>,
    /// Absent for the core group.
    #[serde(rename = "apiGroup", borrow, deserialize_with = "text")]
    pub api_group: Text<'a>,
}

/// `responseStatus`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ResponseStatus {
    /// The HTTP status.
    #[serde(deserialize_with = "number")]
    pub code: Option<u64>,
}

/// The annotations that every stage needs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Annotations<'a> {
    /// allow or forbid; absent on a 401.
    #[serde(rename = "authorization.k8s.io/decision", borrow, deserialize_with = "text")]
    pub decision: Text<'a>,
    /// Which binding and role allowed it, in words of the authorizer.
    #[serde(rename = "authorization.k8s.io/reason", borrow, deserialize_with = "text")]
    pub reason: Text<'a>,
}

impl<'a> AuditEvent<'a> {
    /// Reads the hot fields. What is not a JSON object reads as an event without any field.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// When the event says it happened: `stageTimestamp`, or what older forms have in its place.
    #[must_use]
    pub fn claimed_time(&self) -> Option<Timestamp> {
        [&self.stage_timestamp, &self.request_received_timestamp, &self.timestamp]
            .into_iter()
            .find_map(|time| time.as_deref()?.parse().ok())
    }

    /// The key by which several stages of one request are one occurrence. A client can choose the
    /// Audit-ID, so it alone would hide later requests.
    #[must_use]
    pub fn request_key(&self, cluster: &str) -> EventId {
        let parts =
            [&self.audit_id, &self.user.username, &self.request_uri, &self.request_received_timestamp];
        let mut hasher = blake3::Hasher::new();
        for part in std::iter::once(Some(cluster)).chain(parts.into_iter().map(Option::as_deref)) {
            let part = part.unwrap_or_default();
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        EventId::from_hash(&hasher.finalize())
    }

    /// The common facets, under which one query and one rule span sources.
    #[must_use]
    pub fn facets(&self) -> Facets<'_> {
        Facets {
            actor: self.impersonated_user.username.as_deref().or(self.user.username.as_deref()),
            action: self.verb.as_deref(),
            namespace: self.object_ref.namespace.as_deref(),
            resource: self.object_ref.resource.as_deref(),
            source_ip: self.source_ip(),
            outcome: self.outcome(),
        }
    }

    /// The one address the client cannot choose: the last of `sourceIPs`.
    fn source_ip(&self) -> Option<IpAddr> {
        self.source_ips.last()?.parse().ok()
    }

    fn outcome(&self) -> Outcome {
        match (self.response_status.code, self.annotations.decision.as_deref()) {
            (_, Some("forbid")) => Outcome::Failure,
            (Some(code), _) if code >= 400 => Outcome::Failure,
            (Some(_), _) => Outcome::Success,
            (None, _) => Outcome::Unknown,
        }
    }
}

/// Reads text, and anything else as absent.
pub(crate) fn text<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
    struct TextVisitor;
    impl<'de> Visitor<'de> for TextVisitor {
        type Value = Text<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any value")
        }
        fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
            Ok(Some(Cow::Borrowed(text)))
        }
        fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
            Ok(Some(Cow::Owned(text.to_owned())))
        }
        fn visit_bool<E>(self, _: bool) -> Result<Text<'de>, E> {
            Ok(None)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Text<'de>, E> {
            Ok(None)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Text<'de>, E> {
            Ok(None)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Text<'de>, E> {
            Ok(None)
        }
        fn visit_unit<E>(self) -> Result<Text<'de>, E> {
            Ok(None)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Text<'de>, A::Error> {
            IgnoredAny.visit_seq(seq).map(|_| None)
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Text<'de>, A::Error> {
            IgnoredAny.visit_map(map).map(|_| None)
        }
    }
    deserializer.deserialize_any(TextVisitor)
}

/// Reads the texts of an array; one text alone is an array of one.
fn texts<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Cow<'a, str>>, D::Error> {
    struct Member<'a>(Text<'a>);
    impl<'de: 'a, 'a> Deserialize<'de> for Member<'a> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            text(deserializer).map(Self)
        }
    }
    struct TextsVisitor;
    impl<'de> Visitor<'de> for TextsVisitor {
        type Value = Vec<Cow<'de, str>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any value")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut texts = Vec::new();
            while let Some(Member(member)) = seq.next_element()? {
                texts.extend(member);
            }
            Ok(texts)
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            IgnoredAny.visit_map(map).map(|_| Vec::new())
        }
        fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
            Ok(vec![Cow::Borrowed(text)])
        }
        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![Cow::Owned(text.to_owned())])
        }
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }
    }
    deserializer.deserialize_any(TextsVisitor)
}

/// Reads a number that is not negative, and anything else as absent.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Number(u64),
        Other(IgnoredAny),
    }
    Ok(match Number::deserialize(deserializer)? {
        Number::Number(number) => Some(number),
        Number::Other(_) => None,
    })
}

/// Reads an object, and anything else as one without fields.
fn object<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    struct ObjectVisitor<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for ObjectVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any value")
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(de::value::MapAccessDeserializer::new(map))
        }
        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<T, A::Error> {
            IgnoredAny.visit_seq(seq).map(|_| T::default())
        }
        fn visit_str<E>(self, _: &str) -> Result<T, E> {
            Ok(T::default())
        }
        fn visit_bool<E>(self, _: bool) -> Result<T, E> {
            Ok(T::default())
        }
        fn visit_i64<E>(self, _: i64) -> Result<T, E> {
            Ok(T::default())
        }
        fn visit_u64<E>(self, _: u64) -> Result<T, E> {
            Ok(T::default())
        }
        fn visit_f64<E>(self, _: f64) -> Result<T, E> {
            Ok(T::default())
        }
        fn visit_unit<E>(self) -> Result<T, E> {
            Ok(T::default())
        }
    }
    deserializer.deserialize_any(ObjectVisitor(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNAUTHORIZED: &str = r#"{"level":"Metadata","auditID":"a1","stage":"ResponseStarted",
        "requestURI":"/api/v1/secrets","verb":"list","user":{},"sourceIPs":["6.6.6.6","10.1.2.3"],
        "userAgent":"curl\/8","responseStatus":{"metadata":{},"code":401},
        "requestReceivedTimestamp":"2026-01-31T08:15:00.000001Z","stageTimestamp":"2026-01-31T08:15:00.000002Z"}"#;

    #[test]
    fn reads_an_unauthorized_request() {
        let event = AuditEvent::parse(UNAUTHORIZED.as_bytes());
        assert_eq!(event.user_agent.as_deref(), Some("curl/8"));
        assert_eq!(event.claimed_time().unwrap().to_string(), "2026-01-31T08:15:00.000002Z");
        let facets = event.facets();
        assert_eq!(facets.actor, None);
        assert_eq!(facets.source_ip, Some("10.1.2.3".parse().unwrap()));
        assert_eq!(facets.outcome, Outcome::Failure);
    }

    #[test]
    fn a_field_of_an_unexpected_type_hides_no_other_field() {
        let odd = br#"{"verb":7,"user":"me","sourceIPs":{"a":1},"objectRef":[1,{"x":[]}],"stage":"Panic",
            "responseStatus":{"code":"500"},"annotations":null,"userAgent":{"a":[null]},"auditID":"a2"}"#;
        let event = AuditEvent::parse(odd);
        assert_eq!(event.stage.as_deref(), Some("Panic"));
        assert_eq!(event.audit_id.as_deref(), Some("a2"));
        assert_eq!(event.verb, None);
        assert_eq!(event.response_status.code, None);
        assert_eq!(AuditEvent::parse(b"[]").audit_id, None);
    }

    #[test]
    fn a_chosen_audit_id_does_not_merge_two_requests() {
        let key = |text: &str| AuditEvent::parse(text.as_bytes()).request_key("prod");
        let first = key(UNAUTHORIZED);
        assert_eq!(first, key(&UNAUTHORIZED.replace("ResponseStarted", "ResponseComplete")));
        assert_ne!(first, key(&UNAUTHORIZED.replace("08:15:00.000001Z", "08:15:01.000001Z")));
        assert_ne!(first, key(&UNAUTHORIZED.replace("/api/v1/secrets", "/api/v1/pods")));
        assert_ne!(first, AuditEvent::parse(UNAUTHORIZED.as_bytes()).request_key("test"));
    }
}
