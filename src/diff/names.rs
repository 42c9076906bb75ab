//! Taking store path names apart into package, version and output, and ordering versions as Nix does.
//!
//! With the deriver it is exact: Nix forms an output's name as the derivation's name, a dash and the output (nothing
//! for `out`). Without it, a known output name at the end is taken for one where a version stands before it.

use std::cmp::Ordering;

/// A store path's name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageName {
    pub name: String,
    /// Empty where the name has none.
    pub version: String,
    /// `out` for the unnamed one.
    pub output: String,
}

/// Output names that nixpkgs uses, those that are hardly ever the end of a version.
const OUTPUTS: &[&str] = &[
    "dist", "doc", "texdoc", "tex", "devdoc", "dev", "data", "man", "debug", "bin", "devtools", "lib", "info",
];

/// The same, borrowed from where it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameParts<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub output: &'a str,
}

impl<'a> NameParts<'a> {
    /// Takes a store path's name apart; `deriver` is the name of its derivation (with or without `.drv`).
    pub fn parse(store_name: &'a str, deriver: Option<&'a str>) -> Self {
        let (derivation, output) = deriver
            .map(|name| name.strip_suffix(".drv").unwrap_or(name))
            .and_then(|name| Some((name, output_of(store_name, name)?)))
            .unwrap_or_else(|| guess(store_name));
        let (name, version) = parse_drv_name(derivation);
        NameParts {
            name,
            version,
            output,
        }
    }

    /// Takes a full store path apart.
    pub fn of_path(path: &'a str, deriver: Option<&'a str>) -> Self {
        Self::parse(name_of(path), deriver.map(name_of))
    }
}

impl PackageName {
    /// As [`NameParts::parse`].
    pub fn parse(store_name: &str, deriver: Option<&str>) -> Self {
        NameParts::parse(store_name, deriver).into()
    }

    /// As [`NameParts::of_path`].
    pub fn of_path(path: &str, deriver: Option<&str>) -> Self {
        NameParts::of_path(path, deriver).into()
    }
}

impl From<NameParts<'_>> for PackageName {
    fn from(parts: NameParts<'_>) -> Self {
        PackageName {
            name: parts.name.to_owned(),
            version: parts.version.to_owned(),
            output: parts.output.to_owned(),
        }
    }
}

/// The part of a store path after the hash.
pub(super) fn name_of(path: &str) -> &str {
    const BEFORE: usize = "/nix/store/".len() + 32;
    // Most paths are whole ones.
    if let Some((before, name)) = path.split_at_checked(BEFORE + 1)
        && before.starts_with("/nix/store/")
        && before.ends_with('-')
        && !name.is_empty()
        && memchr::memchr(b'/', &path.as_bytes()["/nix/store/".len()..]).is_none()
    {
        return name;
    }
    let base = path.rsplit('/').next().unwrap_or(path);
    match base.split_at_checked(33) {
        Some((hash, name)) if hash.ends_with('-') && !name.is_empty() => name,
        _ => base,
    }
}

fn output_of<'a>(store_name: &'a str, derivation: &str) -> Option<&'a str> {
    match store_name.strip_prefix(derivation)? {
        "" => Some("out"),
        rest => rest.strip_prefix('-').filter(|output| !output.is_empty()),
    }
}

fn guess(store_name: &str) -> (&str, &str) {
    if let Some((before, last)) = store_name.rsplit_once('-')
        && OUTPUTS.contains(&last)
        && !parse_drv_name(before).1.is_empty()
    {
        return (before, last);
    }
    (store_name, "out")
}

/// `builtins.parseDrvName`: the version begins behind the first dash that no letter follows.
pub fn parse_drv_name(name: &str) -> (&str, &str) {
    let bytes = name.as_bytes();
    let dash = bytes
        .windows(2)
        .position(|pair| pair[0] == b'-' && !pair[1].is_ascii_alphabetic());
    match dash {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => (name, ""),
    }
}

/// `builtins.compareVersions`.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (components(a), components(b));
    loop {
        let (left, right) = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (left, right) => (left.unwrap_or(""), right.unwrap_or("")),
        };
        if less(left, right) {
            return Ordering::Less;
        }
        if less(right, left) {
            return Ordering::Greater;
        }
    }
}

/// A version's parts: runs of digits, and runs of neither digits nor separators.
pub(super) fn components(version: &str) -> impl Iterator<Item = &str> {
    let mut rest = version;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(['.', '-']);
        let first = rest.chars().next()?;
        let end = if first.is_ascii_digit() {
            rest.find(|c: char| !c.is_ascii_digit())
        } else {
            rest.find(|c: char| c.is_ascii_digit() || c == '.' || c == '-')
        };
        let (component, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        Some(component)
    })
}

/// Nix's order of two components; `pre` sorts below everything, numbers (of 32 bits) above words.
fn less(a: &str, b: &str) -> bool {
    let number = |text: &str| {
        text.parse::<i32>()
            .ok()
            .filter(|_| text.starts_with(|c: char| c.is_ascii_digit()))
    };
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a < b,
        (_, Some(_)) if a.is_empty() => true,
        _ if a == "pre" && b != "pre" => true,
        _ if b == "pre" => false,
        (_, Some(_)) => true,
        (Some(_), _) => false,
        _ => a < b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_full_path_is_taken_apart_with_its_deriver() {
        let path = "/nix/store/v4diabb157pvhid92hjcgxx70j15acp1-glibc-2.40-66-getent";
        let deriver = "/nix/store/g578pfargnc6ms3z50wdk0rppccjgx1n-glibc-2.40-66.drv";
        let name = PackageName::of_path(path, Some(deriver));
        assert_eq!(
            (&*name.name, &*name.version, &*name.output),
            ("glibc", "2.40-66", "getent")
        );
        // A deriver of another name tells nothing.
        let name = PackageName::of_path(path, Some("/nix/store/g578pfargnc6ms3z50wdk0rppccjgx1n-x.drv"));
        assert_eq!((&*name.name, &*name.version), ("glibc", "2.40-66-getent"));
    }

    proptest! {
        #[test]
        fn nothing_panics_and_order_is_antisymmetric(a in "\\PC{0,24}", b in "[0-9a-z.-]{0,16}", c in "[0-9a-z.-]{0,16}") {
            let _ = PackageName::of_path(&a, Some(&b));
            let _ = PackageName::parse(&b, Some(&a));
            let _ = compare_versions(&a, &b);
            prop_assert_eq!(compare_versions(&b, &c), compare_versions(&c, &b).reverse());
            prop_assert_eq!(compare_versions(&a, &a), Ordering::Equal);
        }
    }
}
