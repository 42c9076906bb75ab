//! Journals that nobody needs any more go: each run that makes a record drops some.

use std::collections::BTreeSet;

use time::{Duration, OffsetDateTime};

use super::journal::{self, State, Step};
use crate::git::Repo;
use crate::record::{Ledger, Target, Utc};

/// How long a journal is kept that led to no known-good record.
const KEPT: Duration = Duration::days(90);

/// Drops a target's old journals. Best effort: what stays costs some objects.
pub(super) fn drop_old(repo: &Repo, target: &Target, ledger: Option<&Ledger>) {
    let known: BTreeSet<String> = ledger
        .map(|ledger| {
            ledger
                .known_good()
                .iter()
                .map(|record| record.name.to_string())
                .collect()
        })
        .unwrap_or_default();
    let now = OffsetDateTime::now_utc();
    for run in repo.runs(target).unwrap_or_default() {
        if !is_old(&run, now) {
            continue;
        }
        let state = repo.journal_file(target, &run, journal::STATE).ok().flatten();
        if state
            .and_then(|bytes| State::parse(&bytes).ok())
            .is_some_and(|state| is_over(&state, &known))
        {
            let _ = repo.journal_drop(target, &run);
        }
    }
}

/// Ids of runs begin with their time. What does not is none of ours.
fn is_old(run: &str, now: OffsetDateTime) -> bool {
    run.split('-')
        .next()
        .and_then(|time| time.parse::<Utc>().ok())
        .is_some_and(|began| now - began.time() > KEPT)
}

/// A run that has not ended may be resumed, however old it is; a journal that cannot be read is left to a person.
fn is_over(state: &State, known_good: &BTreeSet<String>) -> bool {
    let record = state.ending.as_ref().and_then(|ending| ending.record.as_ref());
    state.step == Step::Ended && record.is_none_or(|record| !known_good.contains(record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::journal::Ending;

    #[test]
    fn ninety_days_after_its_beginning_a_run_is_old() {
        let now = "20261121T120000Z".parse::<Utc>().expect("a time").time();
        assert!(is_old("20260823T115959Z-ab12cd", now));
        assert!(!is_old("20260823T120000Z-ab12cd", now));
        assert!(!is_old("yesterday-ab12cd", now));
        assert!(!is_old("", now));
    }

    #[test]
    fn what_is_known_good_or_not_over_stays() {
        let text = r#"{"schema":1,"run":"r","verb":"release","target":"cortex","commit":"c",
            "started":"2026-01-01T00:00:00Z","by":"Ada <ada@example.org>","step":"ended"}"#;
        let mut state = State::parse(text.as_bytes()).expect("a state");
        let known = BTreeSet::from(["release/cortex/a".to_owned()]);
        assert!(is_over(&state, &known));
        let with = |record: &str| Ending {
            record: Some(record.to_owned()),
            ..Ending::default()
        };
        state.ending = Some(with("release/cortex/b"));
        assert!(is_over(&state, &known));
        state.ending = Some(with("release/cortex/a"));
        assert!(!is_over(&state, &known));
        state.ending = None;
        state.step = Step::NeedsReboot;
        assert!(!is_over(&state, &known));
    }
}
