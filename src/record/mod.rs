//! Records: names, bodies, evidence, the ledger and the rules that judge them. Pure: bytes in, decisions out; no files,
//! no processes, no clock. `docs/format.md` states the format so that a stranger can write a verifier from it.

pub mod body;
pub mod choice;
pub mod evidence;
pub mod ledger;
pub mod name;
pub mod parse;
pub mod rules;
pub mod secrets;
pub mod standing;
pub mod text;

pub use body::{Draft, Link};
pub use choice::Choice;
pub use evidence::Evidence;
pub use ledger::Ledger;
pub use name::{Kind, OnHost, RecordName, Target, Utc};
pub use parse::{Defect, Record, Signature};
pub use secrets::Secrets;
pub use standing::Standing;

/// An object id of the repository, SHA-1 or SHA-256.
pub type Oid = gix::ObjectId;

/// SHA-256 as 64 lower-case hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        hex.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
        hex.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
    }
    hex
}
