//! Users and groups, by what the activation script is given of them.

use super::side::Side;
use super::{Node, USERS, store_name};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Who came, went and differs. Values stay where they are: password hashes are among them.
pub(super) fn users(old: &Side<'_>, new: &Side<'_>) -> Vec<String> {
    let read = |side: &Side<'_>| -> Option<Value> {
        let is_it = |(path, _): &(&String, &Node)| store_name(path).starts_with(USERS);
        match side.files.iter().find(is_it)? {
            (_, Node::File(bytes)) => serde_json::from_slice(bytes).ok(),
            _ => None,
        }
    };
    let (Some(before), Some(after)) = (read(old), read(new)) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for (list, what) in [("users", "user"), ("groups", "group")] {
        let (before, after) = (accounts(&before, list), accounts(&after, list));
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            let shown = name.escape_debug();
            match (before.get(name), after.get(name)) {
                (None, _) => lines.push(format!("+ {what} {shown}")),
                (_, None) => lines.push(format!("- {what} {shown}")),
                (Some(old), Some(new)) if old != new => {
                    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
                    let changed = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
                    let changed: Vec<&str> = changed.map(String::as_str).collect();
                    lines.push(format!("~ {what} {shown}: {}", changed.join(" ")));
                }
                _ => {}
            }
        }
    }
    lines
}

fn accounts(value: &Value, list: &str) -> BTreeMap<String, Map<String, Value>> {
    let all = value.get(list).and_then(Value::as_array).into_iter().flatten();
    let named = all.filter_map(|account| {
        let account = account.as_object()?;
        Some((account.get("name")?.as_str()?.to_owned(), account.clone()))
    });
    named.collect()
}
