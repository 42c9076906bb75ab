//! What git is about to write into this repository, told apart from what it only tidies up. Git calls the
//! `reference-transaction` hook for its own housekeeping too (seen with 2.47; `files_pack_refs` and
//! `prune_ref` in its `refs/files-backend.c`): `git pack-refs` first writes `packed-refs` as one transaction that seems to
//! make every ref anew, then takes each loose file away as one that seems to delete it.

use super::repo::Repo;
use crate::record::rules::Stands;
use crate::record::{Oid, parse};

/// What one line of a transaction comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Landing {
    /// The ref means afterwards what it means now.
    Same,
    /// It changes, from this.
    Changes(Option<Oid>),
    /// It is a symbolic ref, or cannot be read.
    Unclear,
}

impl Repo {
    /// What a line `<old> <new> <ref>` of a prepared transaction comes to, where `old` is what git says and `new` what
    /// will be.
    pub fn landing(&self, name: &str, old: Option<Oid>, new: Option<Oid>) -> Landing {
        let now = match self.stands(name) {
            Stands::At(oid) => Some(oid),
            Stands::Absent => None,
            Stands::Symbolic(_) | Stands::Unreadable(_) => return Landing::Unclear,
        };
        let locked = |file: &str| self.common_dir().join(format!("{file}.lock")).exists();
        let same = match new {
            // While a ref is written or deleted, git holds its lock; while `packed-refs` is written, only that one's.
            Some(_) if now.is_some() && now == new => true,
            Some(_) => old.is_none() && now.is_some() && !locked(name) && locked("packed-refs"),
            // While a ref is deleted, `packed-refs` is locked, also where the ref is not in it.
            None => now.is_some() && self.packed(name) == now && !locked("packed-refs"),
        };
        match same {
            true => Landing::Same,
            false => Landing::Changes(now),
        }
    }

    /// What `packed-refs` has under a name (gitrepository-layout(5)).
    fn packed(&self, name: &str) -> Option<Oid> {
        let text = std::fs::read(self.common_dir().join("packed-refs")).ok()?;
        packed_in(&text, name)
    }
}

fn packed_in(text: &[u8], name: &str) -> Option<Oid> {
    text.split(|b| *b == b'\n').find_map(|line| {
        let line = std::str::from_utf8(line).ok()?;
        let (hex, found) = line.split_once(' ')?;
        (found == name).then(|| parse::oid(hex))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_ref_is_found_by_its_whole_name() {
        let hex = "1".repeat(40);
        let text = format!(
            "# pack-refs with: peeled fully-peeled sorted \n{hex} refs/heads/a/b\n{} refs/heads/a\n^{hex}\n",
            "2".repeat(40)
        );
        let found = packed_in(text.as_bytes(), "refs/heads/a/b");
        assert_eq!(found, parse::oid(&hex));
        assert_eq!(packed_in(text.as_bytes(), "refs/heads"), None);
        assert_eq!(
            packed_in(text.as_bytes(), "pack-refs with: peeled fully-peeled sorted "),
            None
        );
    }
}
