//! Identities for HQ's eyes alone: sealed boxes as of libsodium's `crypto_box_seal`. The gateway
//! cannot open what it has sealed.

use crypto_box::PublicKey;
use crypto_box::aead::rand_core::{CryptoRng, Error, RngCore};
use data_encoding::BASE64;
use rand::Rng as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::domain::names::{OpenId, Phone};

/// An identity that HQ alone can read; prints as its length.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

impl Sealed {
    /// Seals `phone:+` and the digits.
    pub(in crate::domain) fn phone(phone: &Phone, key: [u8; 32], rng: &mut StdRng) -> Option<Self> {
        seal(&format!("phone:+{}", phone.digits()), key, rng)
    }

    /// Seals `openid:` and the id.
    pub(in crate::domain) fn openid(id: &OpenId, key: [u8; 32], rng: &mut StdRng) -> Option<Self> {
        seal(&format!("openid:{}", id.reveal()), key, rng)
    }

    /// As base64.
    pub fn text(&self) -> String {
        BASE64.encode(&self.0)
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map(Self).map_err(de::Error::custom)
    }
}

fn seal(text: &str, key: [u8; 32], rng: &mut StdRng) -> Option<Sealed> {
    PublicKey::from(key).seal(&mut Bridge(rng), text.as_bytes()).ok().map(Sealed)
}

/// Our random source, as the crate's older version of the traits wants it.
struct Bridge<'a>(&'a mut StdRng);

impl RngCore for Bridge<'_> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Bridge<'_> {}

#[cfg(test)]
mod tests {
    use crypto_box::SecretKey;
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn hq_alone_reads_it() {
        let hq = SecretKey::from([5; 32]);
        let key = *hq.public_key().as_bytes();
        let phone = Phone::parse("13800138000", "86").unwrap();
        let mut rng = StdRng::from_seed([1; 32]);
        let sealed = Sealed::phone(&phone, key, &mut rng).unwrap();
        assert_eq!(hq.unseal(&sealed.0).unwrap(), b"phone:+8613800138000");
        assert!(SecretKey::from([6; 32]).unseal(&sealed.0).is_err());
        let again = Sealed::phone(&phone, key, &mut rng).unwrap();
        assert_ne!(sealed, again, "two boxes of one number do not look alike");
        let id = OpenId::parse("oABC-123").unwrap();
        let sealed = Sealed::openid(&id, key, &mut rng).unwrap();
        assert_eq!(hq.unseal(&sealed.0).unwrap(), b"openid:oABC-123");
        let text = serde_json::to_string(&sealed).unwrap();
        assert_eq!(serde_json::from_str::<Sealed>(&text).unwrap(), sealed);
        assert!(!format!("{sealed:?}").contains("oABC"));
    }
}
