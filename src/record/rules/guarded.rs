//! Which refs the rules are about.

use super::super::name::{RecordName, Target};

/// What a guarded ref is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Guarded {
    Record(RecordName),
    Pointer(Target),
    Ledger(Target),
    /// Under a guarded name space, or in its way, but no name that can stand there.
    Malformed(String),
}

/// Below these stand records, pointers and ledgers. A ref that is named like one of them, or like what is above it,
/// leaves no room for them: git keeps no ref below another.
const SPACES: [&str; 3] = ["refs/tags/release", "refs/heads/release", "refs/nixgate/ledger"];
const ABOVE: &str = "refs/nixgate";

/// Whether a ref is one that the rules are about. Everything else passes without a look.
pub fn is_guarded(ref_name: &str) -> bool {
    let in_space = |space: &str| {
        ref_name
            .strip_prefix(space)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    ref_name == ABOVE || SPACES.iter().any(|space| in_space(space))
}

pub(super) fn classify(ref_name: &str) -> Option<Guarded> {
    if !is_guarded(ref_name) {
        return None;
    }
    let target = |text: &str, make: fn(Target) -> Guarded| match text.parse() {
        Ok(target) => make(target),
        Err(why) => Guarded::Malformed(why),
    };
    let below = |space: &str| ref_name.strip_prefix(space)?.strip_prefix('/');
    if let Some(name) = ref_name.strip_prefix("refs/tags/")
        && name != "release"
    {
        return Some(name.parse().map_or_else(Guarded::Malformed, Guarded::Record));
    }
    if let Some(name) = below("refs/heads/release") {
        return Some(target(name, Guarded::Pointer));
    }
    if let Some(name) = below("refs/nixgate/ledger") {
        return Some(target(name, Guarded::Ledger));
    }
    let why = format!("{ref_name} would leave no room for what stands below that name");
    Some(Guarded::Malformed(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k10_the_bare_names_are_guarded_and_what_only_looks_like_them_is_not() {
        for name in [
            "refs/tags/release",
            "refs/heads/release",
            "refs/nixgate/ledger",
            "refs/nixgate",
            "refs/heads/release/cortex/x",
            "refs/nixgate/ledger/cortex/x",
            "refs/tags/release/cortex",
            "refs/tags/release/cortex/junk",
            "refs/heads/release/",
        ] {
            assert!(
                matches!(classify(name), Some(Guarded::Malformed(_))),
                "{name}: {:?}",
                classify(name)
            );
        }
        for name in [
            "refs/heads/release-notes",
            "refs/tags/released",
            "refs/nixgate/ledgers/cortex",
            "refs/nixgate/runs/cortex/1",
            "refs/nixgates",
            "refs/heads/x/release/cortex",
            "HEAD",
            "release/cortex",
        ] {
            assert_eq!(classify(name), None, "{name}");
        }
        assert!(matches!(
            classify("refs/heads/release/cortex"),
            Some(Guarded::Pointer(_))
        ));
        assert!(matches!(
            classify("refs/nixgate/ledger/cortex"),
            Some(Guarded::Ledger(_))
        ));
    }
}
