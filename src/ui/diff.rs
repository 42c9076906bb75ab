//! `diff`: two systems side by side, for a person who has ten seconds, and as JSON.

use serde_json::{Value, json};

use super::Style;
use super::escape::one_line;
use super::lines::{bold, paint};
use crate::diff::{Change, Kind, Part, titles};
use crate::gate::diff::Difference;
use crate::plan::Risk;
use crate::record::Target;
use crate::run::{Compared, Side};

/// What is folded where nobody asks for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Folds {
    /// The lines that were changed are shown.
    pub text: bool,
    /// Lists are shown whole.
    pub all: bool,
}

/// How many lines of one cause, of one change's text, and of packages are shown folded.
const ROOTS: usize = 8;
const LINES: usize = 40;
const PACKAGES: usize = 20;

/// The causes first, then what they brought.
pub fn text(target: &Target, compared: &Compared, folds: Folds, style: Style) -> String {
    let difference = &compared.difference;
    let most = |folded: usize| if folds.all { usize::MAX } else { folded };
    let sides = [&compared.from, &compared.to].map(|side| one_line(&label(side)));
    let mut out = format!("{}: {} → {}\n", bold(target.as_str(), style), sides[0], sides[1]);
    if compared.from.toplevel == compared.to.toplevel {
        out.push_str("no difference: the same closure\n");
        for chapter in difference.between.iter().flat_map(titles) {
            out.push_str(&format!("  {}: no effect\n", one_line(&chapter.title)));
        }
        return out;
    }
    for chapter in difference.chapters() {
        let title = match chapter.title.as_str() {
            "unexplained" => paint("unexplained", 31, style),
            title => bold(&one_line(title), style),
        };
        out.push_str(&format!("\n{title}\n"));
        for line in &chapter.more {
            out.push_str(&format!("  {}\n", one_line(line)));
        }
        for line in chapter.lines.iter().take(most(ROOTS)) {
            out.push_str(&format!("  {}\n", marked(&line.text, style)));
            // What a unit or a file holds is told below.
            let is_held = matches!(line.part, Part::Unit(_) | Part::Etc(_)) && difference.held.is_some();
            if folds.text && !is_held {
                for detail in line.details.iter().take(most(LINES)) {
                    out.push_str(&format!("      {}\n", one_line(detail)));
                }
                out.push_str(&rest(line.details.len(), most(LINES), "      ", "lines"));
            }
        }
        out.push_str(&rest(chapter.lines.len(), most(ROOTS), "  ", "changes"));
    }
    out.push('\n');
    if let Some(line) = difference.risk_line() {
        let high = matches!(&difference.risk, Some((Risk::High, _)));
        let line = one_line(&line);
        out.push_str(&format!(
            "{}\n",
            if high { paint(&line, 31, style) } else { line }
        ));
    }
    if let Some(line) = difference.explained_line() {
        out.push_str(&format!("{line}\n"));
    }
    out.push_str(&held(difference, folds, style));
    out.push_str(&packages(difference, folds.all, style));
    out
}

/// What is changed by content, one line for each kind of thing, and if asked the lines of each.
fn held(difference: &Difference, folds: Folds, style: Style) -> String {
    let most = |folded: usize| if folds.all { usize::MAX } else { folded };
    let mut out = String::new();
    for line in difference.held_lines(most(ROOTS)) {
        out.push_str(&format!("{}\n", one_line(&line)));
    }
    if !folds.text {
        return out;
    }
    for (name, lines) in difference.held.iter().flat_map(|held| held.texts()) {
        out.push_str(&format!("  {}\n", marked(&format!("~ {name}"), style)));
        for line in lines.iter().take(most(LINES)) {
            out.push_str(&format!("      {}\n", one_line(line)));
        }
        out.push_str(&rest(lines.len(), most(LINES), "      ", "lines"));
    }
    out
}

/// The packages; what was only rebuilt is a number where the causes say why.
fn packages(difference: &Difference, all: bool, style: Style) -> String {
    let told = difference.explained.is_some() && !all;
    let (rebuilt, moved): (Vec<&Change>, Vec<&Change>) = difference
        .packages
        .changes()
        .partition(|change| told && change.kind == Kind::Rebuilt);
    let most = if all { usize::MAX } else { PACKAGES };
    let mut out = format!("packages: {}\n", difference.packages.headline());
    for change in moved.iter().take(most) {
        out.push_str(&format!("  {}\n", marked(&change.line(), style)));
    }
    out.push_str(&rest(moved.len(), most, "  ", "packages"));
    if !rebuilt.is_empty() && moved.len() <= most {
        out.push_str(&format!("  ~ {} only rebuilt: --all\n", rebuilt.len()));
    }
    out
}

fn rest(count: usize, shown: usize, indent: &str, what: &str) -> String {
    match count.saturating_sub(shown) {
        0 => String::new(),
        more => format!("{indent}… and {more} more {what}: --all\n"),
    }
}

fn label(side: &Side) -> String {
    match &side.commit {
        Some(commit) if side.name == "live" => format!("live ({})", commit.get(..12).unwrap_or(commit)),
        _ => side.name.clone(),
    }
}

/// A line in the colour of its mark.
fn marked(line: &str, style: Style) -> String {
    let line = one_line(line);
    match line.chars().next() {
        Some('+' | '↑') => paint(&line, 32, style),
        Some('-' | '↓') => paint(&line, 31, style),
        Some('~') => paint(&line, 33, style),
        _ => line,
    }
}

/// Everything, as docs/diff.md describes it.
pub fn json(target: &Target, compared: &Compared) -> Value {
    let difference = &compared.difference;
    let told = difference.attribution.as_ref();
    let roots: Vec<Value> = difference
        .explained
        .iter()
        .flat_map(|explained| &explained.roots)
        .enumerate()
        .map(|(at, root)| {
            let mut value = serde_json::to_value(root).unwrap_or_default();
            if let (Value::Object(map), Some(told)) = (&mut value, told) {
                map.insert("causes".into(), json!(told.of_root.get(at)));
            }
            value
        })
        .collect();
    let packages: Vec<Value> = difference
        .packages
        .changes()
        .enumerate()
        .map(|(at, change)| {
            let mut value = serde_json::to_value(change).unwrap_or_default();
            if let (Value::Object(map), Some(roots)) = (&mut value, difference.roots.get(at)) {
                map.insert("roots".into(), json!(roots));
            }
            value
        })
        .collect();
    json!({
        "target": target.as_str(),
        "from": compared.from,
        "to": compared.to,
        "causes": difference.between.as_ref().map(|between| &between.causes),
        "roots": difference.explained.as_ref().map(|_| roots),
        "following": difference.explained.as_ref().map(|explained| &explained.following),
        "changed-paths": difference.explained.as_ref().map(|explained| explained.count_changed()),
        "explained-paths": told.map(|told| told.explained),
        "unexplained": told.map(|told| &told.unexplained),
        "holds": difference.held,
        "risk": difference.risk.as_ref().map(|(risk, why)| json!({ "level": risk, "why": why })),
        "packages": packages,
        "totals": difference.packages.totals,
    })
}
