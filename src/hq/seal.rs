//! WeChat's signatures and its safe mode.
//!
//! A signature is SHA-1 of the parts, sorted and joined. A sealed message is base64 of AES-256-CBC
//! (the key's first half is the first block's) of: 16 random bytes, the length (32 bits, big-endian),
//! the message, the account's id, and PKCS #7 padding to blocks of 32.

use aes::Aes256;
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use data_encoding::{BASE64, HEXLOWER};
use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq as _;

/// The padding's block.
const BLOCK: usize = 32;

/// The signature of some parts, as hexadecimal digits.
pub(super) fn signature(parts: &[&str]) -> String {
    let mut sorted = parts.to_vec();
    sorted.sort_unstable();
    HEXLOWER.encode(&Sha1::digest(sorted.concat()))
}

/// Whether `claimed` is the signature of the parts; tells nothing by its time.
pub(super) fn is_signed(claimed: &str, parts: &[&str]) -> bool {
    signature(parts).as_bytes().ct_eq(claimed.as_bytes()).into()
}

/// Opens and seals messages of one account.
#[derive(Clone)]
pub(super) struct Seal {
    pub(super) key: [u8; 32],
    pub(super) app_id: String,
}

impl Seal {
    /// The message in a sealed text. `None` if it was not sealed by this key for this account.
    pub(super) fn open(&self, text: &str) -> Option<String> {
        let mut bytes = BASE64.decode(text.as_bytes()).ok()?;
        let cipher = cbc::Decryptor::<Aes256>::new(&self.key.into(), &self.first_block().into());
        let plain = cipher.decrypt_padded::<NoPadding>(&mut bytes).ok()?;
        let padding = usize::from(*plain.last()?);
        let plain = plain.get(..plain.len().checked_sub(padding)?)?;
        let (length, rest) = plain.get(16..)?.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (message, app_id) = rest.split_at_checked(length)?;
        let ours = (1..=BLOCK).contains(&padding) && app_id == self.app_id.as_bytes();
        ours.then(|| String::from_utf8(message.to_vec()).ok()).flatten()
    }

    /// A sealed text of a message.
    pub(super) fn close(&self, random: [u8; 16], message: &str) -> String {
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let mut bytes =
            [&random, &length.to_be_bytes()[..], message.as_bytes(), self.app_id.as_bytes()]
                .concat();
        let padding = BLOCK - bytes.len() % BLOCK;
        // 1 to 32.
        bytes.resize(bytes.len() + padding, u8::try_from(padding).unwrap_or(0));
        let cipher = cbc::Encryptor::<Aes256>::new(&self.key.into(), &self.first_block().into());
        let length = bytes.len();
        // Whole blocks: there is no other error.
        let sealed = cipher.encrypt_padded::<NoPadding>(&mut bytes, length).unwrap_or_default();
        BASE64.encode(sealed)
    }

    fn first_block(&self) -> [u8; 16] {
        let mut block = [0; 16];
        block.copy_from_slice(&self.key[..16]);
        block
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEALED: &str = "+qdx1OKCy+5JPCBFWw70tm0fJGb2Jmeia4FCB7kao+/Q5c/ohsOzQHi8khUOb05JCpj0JB4Rv\
        QMkUyus8TPxLKJGQqcvZqzDpVzazhZv6JsXUnnR8XGT740XgXZUXQ7vJVnAG+tE8NUd4yFyjPy7GgiaviNrlCTj+l\
        5kdfMuFUPpRSrfMZuMcp3Fn2Pede2IuQrKEYwKSqFIZoNqJ4M8EajAsjLY2km32IIjdf8YL/P50F7mStwntrA2cP\
        DrM1kb6mOcfBgRtWygb3VIYnSeOBrebufAlr7F9mFUPAJGj04=";

    fn seal() -> Seal {
        Seal { key: [0; 32], app_id: "wxba5fad812f8e6fb9".into() }
    }

    #[test]
    fn signatures_are_those_of_the_documentation() {
        for (parts, expected) in [
            (
                &["AAAAA", "1714036504", "1514711492"][..],
                "f464b24fc39322e44b38aa78f5edd27bd1441696",
            ),
            (&["AAAAA", "1714037059", "486452656"], "899cf89e464efb63f54ddac96b0a0a235f53aa78"),
            (
                &["AAAAA", "1714112445", "415670741", SEALED],
                "046e02f8204d34f8ba5fa3b1db94908f3df2e9b3",
            ),
            (
                &[
                    "AAAAA",
                    "1713424427",
                    "415670741",
                    "ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ==",
                ],
                "1b9339964ed2e271e7c7b6ff2b0ef902fc94dea1",
            ),
        ] {
            assert_eq!(signature(parts), expected);
            assert!(is_signed(expected, parts) && !is_signed("", parts));
            assert!(!is_signed(&expected.to_uppercase(), parts));
        }
    }

    #[test]
    fn the_documentations_sealed_message_opens() {
        // EncodingAESKey of 43 "A" is a key of zeroes.
        let message = seal().open(SEALED).unwrap();
        assert_eq!(message.len(), 167);
        assert!(message.ends_with("\"Event\":\"debug_demo\",\"debug_str\":\"hello world\"}"));
        let other = Seal { app_id: "wx0000000000000000".into(), ..seal() };
        assert_eq!(other.open(SEALED), None);
        assert_eq!(Seal { key: [1; 32], ..seal() }.open(SEALED), None);
    }

    #[test]
    fn the_documentations_answer_is_sealed() {
        let sealed = seal().close(*b"707722b803182950", "{\"demo_resp\":\"good luck\"}");
        assert_eq!(
            sealed,
            "ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ=="
        );
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(random in any::<[u8; 16]>(), message in ".{0,200}") {
            prop_assert_eq!(seal().open(&seal().close(random, &message)), Some(message));
        }

        #[test]
        fn nothing_else_is_fatal(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = seal().open(&BASE64.encode(&bytes));
            let _ = seal().open(&String::from_utf8_lossy(&bytes));
        }
    }
}
