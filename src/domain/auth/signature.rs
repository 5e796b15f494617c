//! HQ's signatures: Ed25519 (RFC 8032).

use curve25519_dalek::edwards::CompressedEdwardsY;
use ring::signature::{ED25519, UnparsedPublicKey};

/// Whether a public key is a point of the curve, and none of the few (a row of zeroes is one) under
/// which anybody can sign.
pub fn is_key(key: &[u8; 32]) -> bool {
    CompressedEdwardsY(*key).decompress().is_some_and(|point| !point.is_small_order())
}

/// Whether whoever holds the secret half of `key` signed the message. No key, no signature: see
/// [`is_key`], which ring does not ask.
pub fn is_signed(message: &[u8], signature: &[u8], key: &[u8; 32]) -> bool {
    is_key(key) && UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;
    use curve25519_dalek::scalar::Scalar;
    use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
    use proptest::prelude::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    /// The keys of small order, and two of them spelled with numbers that are not below the field's.
    fn weak_keys() -> Vec<[u8; 32]> {
        let mut keys: Vec<_> = EIGHT_TORSION.iter().map(|point| point.compress().0).collect();
        for lowest in [0xed, 0xee] {
            let mut key = [0xff; 32];
            (key[0], key[31]) = (lowest, 0x7f);
            keys.push(key);
        }
        keys
    }

    #[test]
    fn what_anybody_signs_is_not_signed() {
        let points: Vec<_> = EIGHT_TORSION.iter().map(|point| point.compress().0).collect();
        for key in weak_keys() {
            assert!(!is_key(&key), "{key:?}");
            // With no secret at all: one of these is good for one message in eight.
            let forged = points.iter().map(|point| [*point, [0; 32]].concat());
            let forged: Vec<_> =
                forged.flat_map(|s| (0..64u8).map(move |m| (m, s.clone()))).collect();
            let unparsed = UnparsedPublicKey::new(&ED25519, &key);
            assert!(forged.iter().any(|(m, s)| unparsed.verify(&[*m], s).is_ok()), "{key:?}");
            assert!(!forged.iter().any(|(m, s)| is_signed(&[*m], s, &key)), "{key:?}");
        }
    }

    #[test]
    fn what_is_no_point_is_no_key() {
        let mut key = [0; 32];
        key[0] = 2;
        assert!(!is_key(&key));
        assert!(is_key(&SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes()));
    }

    proptest! {
        /// Other arithmetic than ours makes the same signature, and finds it good.
        #[test]
        fn others_sign_alike(seed: [u8; 32], message: Vec<u8>, place in 0..64usize, mask in 1u8..) {
            let (ours, theirs) =
                (Ed25519KeyPair::from_seed_unchecked(&seed).unwrap(), SigningKey::from_bytes(&seed));
            let key = theirs.verifying_key().to_bytes();
            prop_assert_eq!(ours.public_key().as_ref(), &key);
            let mut signature = theirs.sign(&message).to_bytes();
            prop_assert!(ours.sign(&message).as_ref() == signature);
            prop_assert!(is_signed(&message, &signature, &key));

            signature[place] ^= mask;
            prop_assert!(!is_signed(&message, &signature, &key));
            let changed = Signature::from_bytes(&signature);
            let strict = VerifyingKey::from_bytes(&key).unwrap().verify_strict(&message, &changed);
            prop_assert!(strict.is_err());
        }

        /// A signature has one spelling: its number is below the group's order.
        #[test]
        fn a_signature_cannot_be_respelled(seed: [u8; 32], message: Vec<u8>) {
            let ours = SigningKey::from_bytes(&seed);
            let mut signature = ours.sign(&message).to_bytes();
            // The order is one more than the greatest number below it.
            let order = (-Scalar::ONE).to_bytes();
            let mut carry = 1;
            for (byte, more) in signature[32..].iter_mut().zip(order) {
                let sum = u16::from(*byte) + u16::from(more) + carry;
                let [low, high] = sum.to_le_bytes();
                (*byte, carry) = (low, high.into());
            }
            prop_assert!(!is_signed(&message, &signature, ours.verifying_key().as_bytes()));
        }
    }
}
