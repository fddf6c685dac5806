//! Signatures of the Standard Webhooks specification: HMAC-SHA256 over `id.timestamp.body`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{ReceiverError, Secret};

/// Lengths of a key in bytes, as the specification asks.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Signs with one key, or with several while a key is being replaced.
pub(crate) struct Signer {
    keys: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("keys", &self.keys.len()).finish()
    }
}

impl Signer {
    /// Reads secrets of the form `whsec_BASE64`.
    pub(crate) fn new(secrets: &[Secret]) -> Result<Self, ReceiverError> {
        let keys = secrets.iter().map(key).collect::<Option<_>>().ok_or(ReceiverError::SigningSecret)?;
        Ok(Self { keys })
    }

    /// The value of `webhook-signature`, if there are keys. `timestamp` is in seconds.
    pub(crate) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
        let sign = |key: &Vec<u8>| {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
        };
        let signatures: Vec<String> = self.keys.iter().filter_map(sign).collect();
        (!signatures.is_empty()).then(|| signatures.join(" "))
    }
}

fn key(secret: &Secret) -> Option<Vec<u8>> {
    let key = STANDARD.decode(secret.expose().strip_prefix("whsec_")?).ok()?;
    KEY_BYTES.contains(&key.len()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn signs_as_the_specification_says() {
        let sign = |secrets: &[&str]| {
            let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
            let signer = Signer::new(&secrets).unwrap();
            signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#)
        };
        let expect = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(&[SECRET]).unwrap(), expect);
        let other = format!("whsec_{}", STANDARD.encode([7; 32]));
        let both = sign(&[SECRET, &other]).unwrap();
        let parts: Vec<&str> = both.split(' ').collect();
        assert_eq!((parts.len(), parts[0]), (2, expect));
        assert_ne!(parts[1], expect);
        assert_eq!(sign(&[]), None);
    }

    #[test]
    fn secrets_of_another_form_are_refused() {
        for bad in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!", "whsec_c2hvcnQ="] {
            assert!(Signer::new(&[Secret::new(bad)]).is_err(), "{bad}");
        }
    }
}
