//! What git, and ssh or curl below it, say when a remote does not do what was asked.

use crate::failure::{Reason, Weight};

/// In the order in which they are looked for; in lower case.
const TABLE: &[(&str, Weight, Reason)] = &[
    ("permission denied", Weight::Failed, Reason::Auth),
    ("host key verification failed", Weight::Failed, Reason::Auth),
    (
        "remote host identification has changed",
        Weight::Failed,
        Reason::Auth,
    ),
    ("authentication failed", Weight::Failed, Reason::Auth),
    ("too many authentication failures", Weight::Failed, Reason::Auth),
    ("could not read username", Weight::Failed, Reason::Auth),
    ("could not read password", Weight::Failed, Reason::Auth),
    ("access denied", Weight::Failed, Reason::Auth),
    ("returned error: 401", Weight::Failed, Reason::Auth),
    ("returned error: 403", Weight::Failed, Reason::Auth),
    ("returned error: 407", Weight::Failed, Reason::Auth),
    ("returned error: 429", Weight::Passing, Reason::Remote),
    ("returned error: 5", Weight::Passing, Reason::Remote),
    (
        "does not appear to be a git repository",
        Weight::Failed,
        Reason::Remote,
    ),
    ("' not found", Weight::Failed, Reason::Remote),
    ("no space left on device", Weight::Failed, Reason::Disk),
    ("connection refused", Weight::Passing, Reason::Link),
    ("connection reset", Weight::Passing, Reason::Link),
    ("connection closed by", Weight::Passing, Reason::Link),
    ("connection timed out", Weight::Passing, Reason::Link),
    ("operation timed out", Weight::Passing, Reason::Link),
    ("timeout, server", Weight::Passing, Reason::Link),
    ("no route to host", Weight::Passing, Reason::Link),
    ("network is unreachable", Weight::Passing, Reason::Link),
    ("could not resolve host", Weight::Passing, Reason::Link),
    ("couldn't connect to server", Weight::Passing, Reason::Link),
    ("could not connect to server", Weight::Passing, Reason::Link),
    ("empty reply from server", Weight::Passing, Reason::Link),
    (
        "the remote end hung up unexpectedly",
        Weight::Passing,
        Reason::Link,
    ),
    ("early eof", Weight::Passing, Reason::Link),
    ("broken pipe", Weight::Passing, Reason::Link),
];

/// What a complaint about a remote is worth, and its class. What is not known stays until somebody looks.
pub fn judge(text: &str) -> (Weight, Reason) {
    let text = text.to_lowercase();
    TABLE
        .iter()
        .find(|(words, ..)| text.contains(words))
        .map_or((Weight::Failed, Reason::Remote), |(_, weight, reason)| {
            (*weight, *reason)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_38_what_passes_by_itself_is_told_apart_from_what_stays() {
        let table = [
            ("http-401", Weight::Failed, Reason::Auth),
            ("http-403", Weight::Failed, Reason::Auth),
            ("http-404", Weight::Failed, Reason::Remote),
            ("http-429", Weight::Passing, Reason::Remote),
            ("http-503", Weight::Passing, Reason::Remote),
            ("http-cut", Weight::Passing, Reason::Link),
            ("http-refused", Weight::Passing, Reason::Link),
            ("http-dns", Weight::Passing, Reason::Link),
            ("ssh-refused", Weight::Passing, Reason::Link),
            ("ssh-dns", Weight::Passing, Reason::Link),
            ("no-repository", Weight::Failed, Reason::Remote),
        ];
        for (name, weight, reason) in table {
            let file = format!("{}/tests/data/git-said/{name}.txt", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(file).expect("a recording");
            assert_eq!(judge(&text), (weight, reason), "{name}: {text}");
        }
        // An object's id is no status code.
        assert_eq!(
            judge("error: cannot lock ref: is at 4010403 but expected 4031").1,
            Reason::Remote
        );
    }
}
