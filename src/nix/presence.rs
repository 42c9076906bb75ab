//! Which paths of a closure a store has, and which it only believes to have.

use super::exec::Exec;
use super::path::StorePath;
use super::said;
use crate::failure::{Failure, Reason};
use std::collections::HashSet;
use std::time::Duration;

/// A closure's paths as a store has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presence {
    /// Registered, and their files are there.
    pub present: HashSet<StorePath>,
    /// Not registered.
    pub absent: Vec<StorePath>,
    /// Registered, but their files are gone: a copy would skip them.
    pub dangling: Vec<StorePath>,
}

/// Paths come on stdin, one a line, and go out with `i` (invalid) or `d` (dangling) before them. The closing line tells
/// a complete answer from one cut short.
const ASK: &str = r#"set -e
paths=$(cat)
invalid=$(printf '%s\n' "$paths" | xargs nix-store --check-validity --print-invalid)
[ -z "$invalid" ] || printf '%s\n' "$invalid" | while read -r path; do printf 'i %s\n' "$path"; done
printf '%s\n' "$paths" | while read -r path; do
    [ -e "$path" ] || [ -L "$path" ] || printf 'd %s\n' "$path"
done
echo end
"#;

/// Asks the store where `exec` runs, in one command.
pub async fn presence<E: Exec>(
    exec: &E,
    paths: &[StorePath],
    deadline: Duration,
) -> Result<Presence, Failure> {
    ask(exec, ASK, paths, deadline).await
}

/// Which of the paths have their files there: what a copy need not bring. For whoever holds the target's lock, because
/// what broken copies left behind is ended first, as [`super::end_orphaned_copies`] does: it would hold the locks of the
/// paths for ever. The database is not asked: a path that it does not know is replaced in its place, and takes no more
/// room than it has.
///
/// # Errors
/// The answer was cut short.
pub async fn room_before_copy<E: Exec>(
    exec: &E,
    paths: &[StorePath],
    deadline: Duration,
) -> Result<HashSet<StorePath>, Failure> {
    let text = format!(
        "(\n{}\n) >/dev/null 2>&1 </dev/null || :\n{THERE}",
        super::orphans::END
    );
    let presence = ask(exec, &text, paths, deadline).await?;
    Ok(presence.present)
}

/// By the shell alone: a program of Nix's takes longer to start than this takes for thousands of paths.
const THERE: &str = r#"while read -r path; do
    [ -e "$path" ] || [ -L "$path" ] || printf 'd %s\n' "$path"
done
echo end
"#;

async fn ask<E: Exec>(
    exec: &E,
    text: &str,
    paths: &[StorePath],
    deadline: Duration,
) -> Result<Presence, Failure> {
    if paths.is_empty() {
        return Ok(Presence::default());
    }
    let what = "cannot find out which paths the store has";
    let list: String = paths.iter().map(|path| format!("{path}\n")).collect();
    let output = super::script(exec, text, &[], Some(list.into_bytes()), deadline).await?;
    if !output.ok() {
        return Err(said::failure(Reason::Store, what, &output));
    }
    judge(paths, &output.out()).map_err(|why| Failure::failed(Reason::Store, what).why(why))
}

fn judge(paths: &[StorePath], answer: &str) -> Result<Presence, String> {
    let body = answer.strip_suffix("end\n").ok_or("the answer was cut short")?;
    let (mut invalid, mut gone) = (HashSet::new(), HashSet::new());
    for line in body.lines() {
        let (kind, path) = line
            .split_once(' ')
            .ok_or_else(|| format!("`{}`", line.escape_debug()))?;
        let path = StorePath::new(path).map_err(|error| error.to_string())?;
        match kind {
            "i" => invalid.insert(path),
            "d" => gone.insert(path),
            _ => return Err(format!("`{}`", line.escape_debug())),
        };
    }
    let mut presence = Presence::default();
    for path in paths {
        if invalid.contains(path) {
            presence.absent.push(path.clone());
        } else if gone.contains(path) {
            presence.dangling.push(path.clone());
        } else {
            presence.present.insert(path.clone());
        }
    }
    Ok(presence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_is_present_absent_or_dangling() {
        let path = |n: char| {
            StorePath::new(&format!("/nix/store/{}-x", n.to_string().repeat(32))).expect("a store path")
        };
        let paths = [path('a'), path('b'), path('c')];
        let answer = format!("i {}\nd {}\nd {}\nend\n", paths[1], paths[1], paths[2]);
        let presence = judge(&paths, &answer).unwrap();
        assert_eq!(presence.present, HashSet::from([path('a')]));
        assert_eq!(presence.absent, [path('b')]);
        assert_eq!(presence.dangling, [path('c')]);
        assert!(judge(&paths, "").is_err(), "an empty answer is no answer");
        assert!(judge(&paths, "x\nend\n").is_err());
    }
}
