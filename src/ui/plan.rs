//! `plan`: what a release would do, for a person who decides whether to do it, and as JSON.

use serde_json::{Value, json};

use super::Style;
use super::diff::{self, Folds};
use super::lines::{bold, paint, seconds};
use crate::record::Target;
use crate::run::Planned;

/// What changes and why, then what that comes to.
pub fn text(target: &Target, planned: &Planned, folds: Folds, style: Style) -> String {
    let mut out = format!("Deployment Plan: {}\n\n", bold("1 host", style));
    out.push_str(&diff::text(target, &planned.compared, folds, style));
    out.push('\n');
    let verdict = match planned.is_changed() {
        true => paint(&format!("CHANGED ({})", counts(planned)), 33, style),
        false => paint("UNCHANGED (skip deployment)", 32, style),
    };
    out.push_str(&format!("{}: {verdict}\n", bold(target.as_str(), style)));
    if planned.is_changed() {
        out.push_str(&match planned.estimate {
            Some((millis, 1)) => format!("Estimated time: {} (as the last release)\n", seconds(millis)),
            Some((millis, count)) => {
                format!(
                    "Estimated time: {} (median of the last {count} releases)\n",
                    seconds(millis)
                )
            }
            None => "Estimated time: not known, nothing was released yet\n".to_owned(),
        });
        out.push_str(&match &planned.runs {
            Some(record) => format!(
                "Rollback: by itself while a gate fails, to {record}; later: git nixgate rollback {target}\n"
            ),
            None => {
                "Rollback: by itself while a gate fails, to what runs now, which no record names\n".to_owned()
            }
        });
    }
    out.push_str(&format!("Recommendation: {}\n", recommendation(target, planned)));
    out
}

/// `3 packages, 1 config`
fn counts(planned: &Planned) -> String {
    let (packages, config) = planned.compared.difference.counts();
    let some = |count: usize, one: &str, many: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        n => Some(format!("{n} {many}")),
    };
    let all = [
        some(packages, "package", "packages"),
        some(config, "config", "configs"),
    ];
    let all: Vec<String> = all.into_iter().flatten().collect();
    match all.is_empty() {
        true => "only rebuilt".to_owned(),
        false => all.join(", "),
    }
}

fn recommendation(target: &Target, planned: &Planned) -> String {
    match (planned.is_changed(), &planned.refused, &planned.runs) {
        (_, Some(_), _) => format!("Do not deploy {target}: a release would be refused"),
        (true, None, _) => format!("Deploy {target}"),
        (false, None, Some(_)) => "Deploy nothing".to_owned(),
        (false, None, None) => {
            format!("Release {target}: what runs is the candidate, and no record says so yet")
        }
    }
}

/// As `diff`'s, and what it comes to.
pub fn json(target: &Target, planned: &Planned) -> Value {
    let (packages, config) = planned.compared.difference.counts();
    let mut value = diff::json(target, &planned.compared);
    if let Value::Object(map) = &mut value {
        map.insert(
            "plan".into(),
            json!({
                "changed": planned.is_changed(),
                "packages": packages,
                "config": config,
                "runs": planned.runs,
                "estimate-millis": planned.estimate.map(|(millis, _)| millis),
                "refused": planned.refused.as_ref().map(|failure| &failure.what),
                "recommendation": recommendation(target, planned),
            }),
        );
    }
    value
}
