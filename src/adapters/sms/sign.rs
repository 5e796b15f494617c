//! Request signatures of Alibaba Cloud (`ACS3-HMAC-SHA256`) and Tencent Cloud
//! (`TC3-HMAC-SHA256`): one canonical form of a request, two ways to sign its hash. Pure.

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use crate::domain::names::WallTime;

/// All but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What is signed of a request for `/`.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// In canonical form, without `?`.
    pub(super) query: &'a str,
    /// Sorted by name, names in lower case.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a str,
}

impl Request<'_> {
    /// The `Authorization` header for Alibaba Cloud.
    pub(super) fn acs3(&self, key_id: &str, secret: &str) -> String {
        let signature = HEXLOWER.encode(&keyed(secret.as_bytes(), &self.acs3_text()));
        let signed = self.signed();
        format!("ACS3-HMAC-SHA256 Credential={key_id},SignedHeaders={signed},Signature={signature}")
    }

    /// The `Authorization` header for a service of Tencent Cloud; `at` as in `X-TC-Timestamp`.
    pub(super) fn tc3(&self, id: &str, secret: &str, service: &str, at: WallTime) -> String {
        let scope = format!("{}/{service}/tc3_request", date(at));
        let mut key = format!("TC3{secret}").into_bytes();
        for part in scope.split('/') {
            key = keyed(&key, part).to_vec();
        }
        let signature = HEXLOWER.encode(&keyed(&key, &self.tc3_text(&scope, at)));
        let signed = self.signed();
        format!(
            "TC3-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={signed}, Signature={signature}"
        )
    }

    fn acs3_text(&self) -> String {
        format!("ACS3-HMAC-SHA256\n{}", hash(&self.canonical()))
    }

    fn tc3_text(&self, scope: &str, at: WallTime) -> String {
        format!("TC3-HMAC-SHA256\n{}\n{scope}\n{}", seconds(at), hash(&self.canonical()))
    }

    fn canonical(&self) -> String {
        let headers: String = self
            .headers
            .iter()
            .flat_map(|(name, value)| [name, ":", value, "\n"].map(str::to_owned))
            .collect();
        format!("POST\n/\n{}\n{headers}\n{}\n{}", self.query, self.signed(), hash(self.body))
    }

    fn signed(&self) -> String {
        self.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";")
    }
}

/// `k=v&…`, names in order, encoded as RFC 3986 wants it; good as a form, too.
pub(super) fn pairs(parameters: &[(&str, &str)]) -> String {
    let mut parameters = parameters.to_vec();
    parameters.sort_unstable();
    let encoded = |text| utf8_percent_encode(text, RESERVED);
    let pairs =
        parameters.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// SHA-256 in hexadecimal.
pub(super) fn hash(text: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(text.as_bytes()))
}

/// Seconds since 1970.
pub(super) const fn seconds(at: WallTime) -> i64 {
    at.0.div_euclid(1000)
}

/// `2023-10-26T10:22:32Z`.
pub(super) fn date_and_time(at: WallTime) -> String {
    stamp(at).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn date(at: WallTime) -> String {
    stamp(at).strftime("%Y-%m-%d").to_string()
}

fn stamp(at: WallTime) -> Timestamp {
    Timestamp::from_second(seconds(at)).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn keyed(key: &[u8], text: &str) -> [u8; 32] {
    // HMAC takes keys of any length (RFC 2104); the error is for algorithms that do not.
    Hmac::<Sha256>::new_from_slice(key).map_or([0; 32], |mut hmac| {
        hmac.update(text.as_bytes());
        hmac.finalize().into_bytes().into()
    })
}

#[cfg(test)]
mod tests;
