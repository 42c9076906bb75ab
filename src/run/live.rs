//! `verify --live`: what a host keeps, against what its records say of it.

use std::collections::BTreeMap;

use super::store::{Desk, StoreOptions};
use super::{World, reach};
use crate::failure::Failure;
use crate::host::Facts;
use crate::record::{Defect, Ledger, OnHost, RecordName, Target, sha256_hex};

/// What a host keeps, beside its records.
#[derive(Debug, Default)]
pub struct Live {
    pub defects: Vec<Defect>,
    /// Worth a word, and nothing that contradicts a record.
    pub notes: Vec<String>,
}

/// Compares the roots of a target, the closures that they keep and the record that it carries with its ledger. Nothing is
/// changed there.
///
/// # Errors
/// The host cannot be looked at.
pub async fn look_live(world: World<'_>, target: &Target) -> Result<Live, Failure> {
    let desk = Desk::open(world, target, &StoreOptions::default()).await?;
    let found = compared(&desk, target).await;
    desk.session.close().await;
    found
}

async fn compared(desk: &Desk<'_>, target: &Target) -> Result<Live, Failure> {
    let Some(ledger) = &desk.ledger else {
        return Ok(Live::default());
    };
    let facts = reach::read_facts(&desk.session, target).await?;
    let mut defects = roots(ledger, &facts.roots);
    defects.extend(carried(ledger, &facts));
    if let Some(other) = super::carried::another(&facts, target) {
        let why = format!(
            "the host of {target} carries the record of {}: {}",
            other.target, other.tag
        );
        defects.push(Defect::new("carried", why));
    }
    let (_, health) = desk.look().await?;
    let unlike = health.unlike.iter();
    defects.extend(unlike.map(|text| Defect::new("closure", format!("on {target} {text}"))));
    defects.extend(health.broken.iter().map(|broken| {
        let why = format!("on {target} {} is {}", broken.path, broken.fault.words());
        Defect::new("closure", why)
    }));
    let notes = health.noted.iter().map(|text| format!("on {target} {text}"));
    Ok(Live {
        defects,
        notes: notes.collect(),
    })
}

/// Where a root leads elsewhere than its release, and whether what is on the host has one.
fn roots(ledger: &Ledger, roots: &BTreeMap<String, String>) -> Vec<Defect> {
    let target = ledger.target();
    let prefix = format!("{target}/");
    let own: BTreeMap<&str, &str> = roots
        .iter()
        .filter_map(|(name, path)| Some((name.strip_prefix(&prefix)?, path.as_str())))
        .collect();
    let recorded = |leaf: &str| match leaf {
        "before-first" => {
            let before = ledger.records()[0].evidence.before.as_ref();
            before.map(|before| before.toplevel.as_str())
        }
        leaf => {
            let name = RecordName::from_leaf(target, leaf).ok()?;
            Some(ledger.get(&name)?.evidence.toplevel.as_str())
        }
    };
    let mut defects = Vec::new();
    for (leaf, path) in &own {
        if recorded(leaf).is_some_and(|wanted| wanted != *path) {
            let why = format!("on {target} the root {leaf} leads to {path}, which is not what was recorded");
            defects.push(Defect::new("root", why));
        }
    }
    let on_host = match ledger.on_host() {
        OnHost::BeforeFirst => "before-first".to_owned(),
        OnHost::Release(name) => name.leaf(),
    };
    if !own.contains_key(on_host.as_str()) {
        let why = format!("on {target} nothing keeps {on_host}, which is what it runs by its records");
        defects.push(Defect::new("root", why));
    }
    defects
}

/// The host carries its newest record.
fn carried(ledger: &Ledger, facts: &Facts) -> Option<Defect> {
    use base64::Engine as _;
    let target = ledger.target();
    let text = facts.record_base64.as_deref()?;
    let compact: String = text.split_ascii_whitespace().collect();
    let raw = base64::engine::general_purpose::STANDARD
        .decode(compact)
        .unwrap_or_default();
    let sha256 = sha256_hex(&raw);
    let head = ledger.head();
    if sha256 == head.sha256 {
        return None;
    }
    let older = ledger.records().iter().find(|record| record.sha256 == sha256);
    let what = older.map_or_else(
        || "a record that is not in the ledger".to_owned(),
        |record| record.name.to_string(),
    );
    let why = format!("{target} carries {what}, and the newest is {}", head.name);
    Some(Defect::new("carried", why))
}
