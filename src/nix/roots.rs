//! GC roots that keep recorded closures alive, on a builder or a target.
//!
//! root's are direct links below `/nix/var/nix/gcroots/nixgate/`; they may be made before the path exists. Another user
//! cannot write there, so theirs are below `${XDG_STATE_HOME:-~/.local/state}/nixgate/roots/`, registered by
//! `nix-store --add-root`, which needs a valid path.

use super::exec::Exec;
use super::path::StorePath;
use super::said;
use crate::failure::{Failure, Reason};
use std::time::Duration;

/// One root of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Its name within the directory that was asked for.
    pub name: String,
    pub path: StorePath,
}

/// Sets `$dir` to where the roots of `$1` belong.
const WHERE: &str = r#"set -e
if [ "$(id -u)" = 0 ]; then base=/nix/var/nix/gcroots/nixgate
else base=${XDG_STATE_HOME:-$HOME/.local/state}/nixgate/roots; fi
dir=$base/$1
"#;

/// A link is replaced by renaming a new one over it: at no moment is the path without a root.
const ADD: &str = r#"mkdir -p -- "$dir"
if [ "$(id -u)" = 0 ]; then
    ln -s -- "$3" "$dir/.$2.$$"
    mv -fT -- "$dir/.$2.$$" "$dir/$2" 2>/dev/null || { rm -f -- "$dir/.$2.$$"; ln -sfn -- "$3" "$dir/$2"; }
else
    nix-store --realise "$3" --add-root "$dir/$2" --indirect >/dev/null
fi
[ "$(readlink -- "$dir/$2")" = "$3" ]
printf '%s\n' "$dir/$2"
"#;

/// The same for the path's derivation, as `<name>.drv`: where `keep-derivations` is off, the next diff would find none.
/// Best effort: what it costs is the words of a diff.
const ADD_DRV: &str = r#"[ -z "$4" ] || [ ! -e "$4" ] || {
    if [ "$(id -u)" = 0 ]; then ln -sfn -- "$4" "$dir/$2.drv"
    else nix --extra-experimental-features nix-command build --out-link "$dir/$2.drv" "$4"; fi
} >/dev/null 2>&1 || :
"#;

/// What the run that built it needed until here: its own root `$5`, and the commit that it sent as `$6`.
const SETTLE: &str = r#"rm -f -- "$dir/$5"
sources=${XDG_STATE_HOME:-$HOME/.local/state}/nixgate/src.git
[ ! -d "$sources" ] || git -C "$sources" update-ref -d "refs/nixgate/src/$6" 2>/dev/null || :
"#;

/// `$1` is the directory, and each further word a root.
const REMOVE: &str = r#"shift
for name do rm -f -- "$dir/$name" "$dir/$name.drv"; done
rmdir -- "$dir" 2>/dev/null || :
"#;

const LIST: &str = r#"[ -d "$dir" ] || exit 0
cd -- "$dir"
for link in *; do
    [ -L "$link" ] || continue
    printf '%s\n%s\n' "$link" "$(readlink -- "$link")"
done
"#;

/// Roots are files that we name: labels and digits, never a way out of the directory.
fn check(what: &str, text: &str) -> Result<(), Failure> {
    let fine = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b))
    };
    let whole = if what == "directory" {
        text.split('/').all(fine)
    } else {
        fine(text)
    };
    if whole {
        return Ok(());
    }
    Err(Failure::failed(
        Reason::Internal,
        format!("`{}` is no {what} for roots", text.escape_debug()),
    ))
}

/// Roots `path` as `<dir>/<name>`; says where the link is. An existing root of that name is replaced. `drv` is kept with
/// it, if it is there.
pub async fn add_root<E: Exec>(
    exec: &E,
    dir: &str,
    name: &str,
    (path, drv): (&StorePath, Option<&str>),
    deadline: Duration,
) -> Result<String, Failure> {
    rooted(exec, dir, name, (path, drv), None, deadline).await
}

/// As [`add_root`], in place of what a run had there: its own root `link` in the same directory, and the commit that it
/// sent to be built.
pub async fn settle_root<E: Exec>(
    exec: &E,
    dir: &str,
    name: &str,
    closure: (&StorePath, Option<&str>),
    (link, run): (&str, &str),
    deadline: Duration,
) -> Result<String, Failure> {
    check("name", link)?;
    check("name", run)?;
    rooted(exec, dir, name, closure, Some((link, run)), deadline).await
}

async fn rooted<E: Exec>(
    exec: &E,
    dir: &str,
    name: &str,
    (path, drv): (&StorePath, Option<&str>),
    settled: Option<(&str, &str)>,
    deadline: Duration,
) -> Result<String, Failure> {
    check("directory", dir)?;
    check("name", name)?;
    let mut text = format!("{WHERE}{ADD}{ADD_DRV}");
    let mut arguments = vec![dir, name, path.as_str(), drv.unwrap_or_default()];
    if let Some((link, run)) = settled {
        text.push_str(SETTLE);
        arguments.extend([link, run]);
    }
    let output = super::script(exec, &text, &arguments, None, deadline).await?;
    if !output.ok() {
        return Err(said::failure(
            Reason::Store,
            format!("cannot make the root {dir}/{name} for {path}"),
            &output,
        ));
    }
    Ok(output.out().trim_end().to_string())
}

/// Removes the roots `<dir>/<name>`, in one command; one that is not there is no error.
pub async fn remove_roots<E: Exec>(
    exec: &E,
    dir: &str,
    names: &[String],
    deadline: Duration,
) -> Result<(), Failure> {
    check("directory", dir)?;
    for name in names {
        check("name", name)?;
    }
    let words: Vec<&str> = std::iter::once(dir)
        .chain(names.iter().map(String::as_str))
        .collect();
    let output = super::script(exec, &format!("{WHERE}{REMOVE}"), &words, None, deadline).await?;
    if !output.ok() {
        return Err(said::failure(
            Reason::Store,
            format!("cannot remove roots of {dir}: {}", names.join(", ")),
            &output,
        ));
    }
    Ok(())
}

/// The roots in `<dir>`, by name. A link that is not to a store path is none of ours.
pub async fn list_roots<E: Exec>(exec: &E, dir: &str, deadline: Duration) -> Result<Vec<Root>, Failure> {
    check("directory", dir)?;
    let output = super::script(exec, &format!("{WHERE}{LIST}"), &[dir], None, deadline).await?;
    if !output.ok() {
        return Err(said::failure(
            Reason::Store,
            format!("cannot list the roots in {dir}"),
            &output,
        ));
    }
    let text = output.out();
    let lines: Vec<&str> = text.lines().collect();
    let mut roots: Vec<Root> = lines
        .chunks_exact(2)
        .filter_map(|pair| {
            Some(Root {
                name: pair[0].to_string(),
                path: StorePath::new(pair[1]).ok()?,
            })
        })
        .collect();
    roots.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(roots)
}
