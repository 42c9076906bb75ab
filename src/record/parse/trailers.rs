//! The last lines of a record's body, by which records are chained.

use std::collections::BTreeMap;

use super::super::Oid;
use super::super::body::SCHEMA;
use super::super::name::{Kind, OnHost, RecordName, Target};
use super::{Defect, Previous, number, oid};

/// Every trailer of the schema, in the one order that they have.
const TRAILERS: [&str; 9] = [
    "Schema",
    "Target",
    "Kind",
    "Seq",
    "Previous",
    "Previous-SHA256",
    "Evidence-SHA256",
    "Restores",
    "Withdraws",
];

/// What the trailers say.
pub(super) struct Trailers {
    pub target: Target,
    pub kind: Kind,
    pub seq: u64,
    pub previous: Option<Previous>,
    pub evidence_sha256: String,
    pub restores: Option<OnHost>,
    pub withdraws: Vec<RecordName>,
}

impl Trailers {
    /// Reads them: all of the schema's, each once, in their order; `own` is the record's own id, of whose kind all ids are.
    ///
    /// # Errors
    /// The first thing that is not so.
    pub fn parse(text: &str, own: Oid) -> Result<Trailers, Defect> {
        let wrong = |why: String| Defect::new("trailers", why);
        let mut once: BTreeMap<&str, &str> = BTreeMap::new();
        let mut withdraws = Vec::new();
        let mut reached = 0;
        let text = text
            .strip_suffix('\n')
            .ok_or_else(|| wrong("the trailers do not end with a line's end".into()))?;
        for line in text.split('\n') {
            let (key, value) = line
                .strip_prefix("Nixgate-")
                .and_then(|line| line.split_once(": "))
                .ok_or_else(|| wrong(format!("{line:?} is no Nixgate trailer")))?;
            let Some(place) = TRAILERS.iter().position(|known| *known == key) else {
                return Err(wrong(format!("schema {SCHEMA} knows no Nixgate-{key}")));
            };
            if place < reached {
                return Err(wrong(format!(
                    "Nixgate-{key} stands behind Nixgate-{}",
                    TRAILERS[reached]
                )));
            }
            reached = place;
            if key == "Withdraws" {
                withdraws.push(value.parse().map_err(wrong)?);
            } else if once.insert(key, value).is_some() {
                return Err(wrong(format!("Nixgate-{key} stands there twice")));
            }
        }
        let need = |key: &str| {
            once.get(key)
                .copied()
                .ok_or_else(|| wrong(format!("Nixgate-{key} is missing")))
        };
        if need("Schema")? != SCHEMA {
            return Err(Defect::new(
                "schema",
                format!("schema {} is not known here", need("Schema")?),
            ));
        }
        let seq = number(need("Seq")?).filter(|n| *n > 0);
        let previous = match (once.get("Previous"), once.get("Previous-SHA256")) {
            (None, None) => None,
            (Some(id), Some(sha256)) => Some(Previous {
                oid: oid(id)
                    .filter(|id| id.kind() == own.kind())
                    .ok_or_else(|| wrong(format!("Nixgate-Previous {id:?} is no object id")))?,
                sha256: hex64(sha256).ok_or_else(|| wrong("Nixgate-Previous-SHA256 is no SHA-256".into()))?,
            }),
            _ => {
                return Err(wrong(
                    "Nixgate-Previous and Nixgate-Previous-SHA256 go together".into(),
                ));
            }
        };
        let mut sorted: Vec<&RecordName> = withdraws.iter().collect();
        sorted.sort();
        sorted.dedup();
        if sorted.len() != withdraws.len() {
            return Err(wrong("a release is withdrawn twice".into()));
        }
        Ok(Trailers {
            target: need("Target")?.parse().map_err(wrong)?,
            kind: need("Kind")?.parse().map_err(wrong)?,
            seq: seq.ok_or_else(|| wrong(format!("Nixgate-Seq {:?} is no sequence number", once["Seq"])))?,
            previous,
            evidence_sha256: need("Evidence-SHA256")?.to_owned(),
            restores: once
                .get("Restores")
                .map(|value| value.parse().map_err(wrong))
                .transpose()?,
            withdraws,
        })
    }
}

fn hex64(hex: &str) -> Option<String> {
    let good = hex.len() == 64
        && hex
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    good.then(|| hex.to_owned())
}
