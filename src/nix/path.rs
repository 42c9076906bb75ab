//! Store paths and hashes as values that were checked once.

use base64::Engine;
use std::fmt;
use std::sync::Arc;

/// Where every store path begins. Other store directories are not supported: a NixOS host has this one.
pub(super) const STORE: &str = "/nix/store/";
/// The digits of Nix's own base 32, in the order of their values.
const NIX32: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
/// The length of a store path's hash part.
const HASH: usize = 32;

/// `/nix/store/<32 digits>-<name>`, and nothing below it. A clone shares the text: closures name each path many times.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(Arc<str>);

/// A text that is not a store path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a store path", .0.escape_debug())]
pub struct BadStorePath(String);

impl StorePath {
    /// Checks a full path.
    pub fn new(path: &str) -> Result<Self, BadStorePath> {
        match path.strip_prefix(STORE) {
            Some(base) if is_base_name(base) => Ok(StorePath(path.into())),
            _ => Err(BadStorePath(path.chars().take(300).collect())),
        }
    }

    /// Checks a full path or a name relative to the store, as newer versions of Nix print it in JSON.
    pub fn from_json(text: &str) -> Result<Self, BadStorePath> {
        if text.starts_with('/') {
            Self::new(text)
        } else {
            Self::new(&format!("{STORE}{text}"))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the hash: `nginx-1.26.2`.
    pub fn name(&self) -> &str {
        &self.0[STORE.len() + HASH + 1..]
    }

    /// The 32 digits that make the path unique.
    pub fn hash(&self) -> &str {
        &self.0[STORE.len()..STORE.len() + HASH]
    }

    /// `<hash>-<name>`: the path relative to the store.
    pub fn base_name(&self) -> &str {
        &self.0[STORE.len()..]
    }

    /// Whether this is a derivation.
    pub fn is_derivation(&self) -> bool {
        self.0.ends_with(".drv")
    }
}

fn is_base_name(base: &str) -> bool {
    let bytes = base.as_bytes();
    let Some((hash, [b'-', name @ ..])) = bytes.split_at_checked(HASH) else {
        return false;
    };
    hash.iter().all(|b| KINDS[usize::from(*b)] & DIGIT != 0)
        && (1..=211).contains(&name.len())
        && name != b"."
        && name != b".."
        && name.iter().all(|b| KINDS[usize::from(*b)] & NAME != 0)
}

/// May stand in a store path's hash, in its name.
const DIGIT: u8 = 1;
const NAME: u8 = 2;
/// What each byte may be: closures bring tens of thousands of paths.
const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric()
            || matches!(byte as u8, b'+' | b'-' | b'.' | b'_' | b'?' | b'=')
        {
            kinds[byte] |= NAME;
        }
        byte += 1;
    }
    let mut digit = 0;
    while digit < NIX32.len() {
        kinds[NIX32[digit] as usize] |= DIGIT;
        digit += 1;
    }
    kinds
};

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for StorePath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for StorePath {
    type Err = BadStorePath;

    fn from_str(text: &str) -> Result<Self, BadStorePath> {
        Self::new(text)
    }
}

impl TryFrom<String> for StorePath {
    type Error = BadStorePath;

    fn try_from(text: String) -> Result<Self, BadStorePath> {
        Self::new(&text)
    }
}

impl serde::Serialize for StorePath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for StorePath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// A SHA-256 in any form Nix prints (`sha256:` with 64 hex or 52 nix32 digits, `sha256-` with base 64, or bare) as 64
/// lower-case hex digits.
pub fn sha256_hex(text: &str) -> Option<String> {
    let digits = text
        .strip_prefix("sha256:")
        .or_else(|| text.strip_prefix("sha256-"))
        .unwrap_or(text);
    match digits.len() {
        64 if digits.bytes().all(|b| b.is_ascii_hexdigit()) => Some(digits.to_ascii_lowercase()),
        52 => from_nix32(digits).map(|bytes| hex(&bytes)),
        43 | 44 => base64::engine::general_purpose::STANDARD
            .decode(format!("{}=", digits.trim_end_matches('=')))
            .ok()
            .filter(|bytes| bytes.len() == 32)
            .map(|bytes| hex(&bytes)),
        _ => None,
    }
}

/// Nix's base 32: the digits run from the most significant group to the least, five bits each.
fn from_nix32(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0u8; 32];
    for (place, digit) in digits.bytes().rev().enumerate() {
        let value = u8::try_from(NIX32.iter().position(|d| *d == digit)?).ok()?;
        let (index, shift) = (place * 5 / 8, place * 5 % 8);
        *bytes.get_mut(index)? |= value << shift;
        let carry = u16::from(value) >> (8 - shift);
        match bytes.get_mut(index + 1) {
            Some(next) => *next |= u8::try_from(carry).ok()?,
            None if carry != 0 => return None,
            None => {}
        }
    }
    Some(bytes)
}

/// Nix's base 32 of bytes.
fn to_nix32(bytes: &[u8]) -> String {
    let digits = (bytes.len() * 8).div_ceil(5);
    (0..digits)
        .rev()
        .map(|place| {
            let (index, shift) = (place * 5 / 8, place * 5 % 8);
            let byte = |at: usize| u16::from(bytes.get(at).copied().unwrap_or(0));
            let value = (byte(index) >> shift) | (byte(index + 1) << (8 - shift));
            char::from(NIX32[usize::from(value & 31)])
        })
        .collect()
}

/// Where the contents of a flake input are in the store, by their NAR hash (Nix manual, "Store path": a `source` that is
/// hashed recursively by SHA-256 and refers to nothing).
pub fn source_path(nar_hash: &str) -> Option<String> {
    use sha2::{Digest, Sha256};
    let hash = sha256_hex(nar_hash)?;
    let sum = Sha256::digest(format!("source:sha256:{hash}:/nix/store:source"));
    let mut short = [0u8; 20];
    for (at, byte) in sum.iter().enumerate() {
        short[at % 20] ^= byte;
    }
    Some(format!("{STORE}{}-source", to_nix32(&short)))
}

/// Bytes as lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn every_form_of_a_hash_is_the_same_hash() {
        for form in [
            HASH_OF_NOTHING,
            &HASH_OF_NOTHING.to_uppercase(),
            &format!("sha256:{HASH_OF_NOTHING}"),
            "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
            "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
        ] {
            assert_eq!(sha256_hex(form).as_deref(), Some(HASH_OF_NOTHING), "{form}");
        }
        for bad in [
            "",
            "sha256:",
            "sha512-47DE",
            "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
        ] {
            assert_eq!(sha256_hex(bad), None, "{bad}");
        }
        // 52 digits hold 260 bits: the four surplus ones must be zero.
        assert_eq!(sha256_hex(&"z".repeat(52)), None);
    }

    #[test]
    fn bytes_come_back_from_base_32() {
        let bytes: Vec<u8> = (0..32).map(|n| n * 7 + 3).collect();
        assert_eq!(from_nix32(&to_nix32(&bytes)).map(Vec::from), Some(bytes));
        assert_eq!(source_path("sha1:00"), None);
    }

    #[test]
    fn a_store_path_has_a_hash_and_a_name() {
        let path =
            StorePath::new("/nix/store/v4diabb157pvhid92hjcgxx70j15acp1-nixos-system-cortex-25.05").unwrap();
        assert_eq!(path.name(), "nixos-system-cortex-25.05");
        assert_eq!(path.hash(), "v4diabb157pvhid92hjcgxx70j15acp1");
        assert_eq!(StorePath::from_json(path.base_name()).unwrap(), path);
        let json = serde_json::to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<StorePath>(&json).unwrap(), path);
    }

    #[test]
    fn what_is_not_exactly_a_store_path_is_refused() {
        for bad in [
            "",
            "/nix/store",
            "/nix/store/",
            "/nix/store/v4diabb157pvhid92hjcgxx70j15acp1",
            "/nix/store/v4diabb157pvhid92hjcgxx70j15acp1-",
            "/nix/store/v4diabb157pvhid92hjcgxx70j15acp1-..",
            "/nix/store/v4diabb157pvhid92hjcgxx70j15acpe-x",
            "/nix/store/v4diabb157pvhid92hjcgxx70j15acp1-x/bin",
            "/nix/store/v4diabb157pvhid92hjcgxx70j15acp1-x y",
            "/nix/store/v4diabb157pvhid92hjcgxx70j15acp1-x\n",
            "/nix/store/../etc",
            "nix/store/v4diabb157pvhid92hjcgxx70j15acp1-x",
        ] {
            assert!(StorePath::new(bad).is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<StorePath>("\"/etc/passwd\"").is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "\\PC{0,80}", bytes in proptest::collection::vec(any::<u8>(), 32)) {
            let _ = StorePath::new(&text);
            let _ = StorePath::from_json(&text);
            let _ = sha256_hex(&text);
            let sri = format!("sha256-{}", base64::engine::general_purpose::STANDARD.encode(&bytes));
            prop_assert_eq!(sha256_hex(&sri), Some(hex(&bytes)));
        }
    }
}
