//! Tables read key by key: typed values, complaints with their line, and the keys that nobody asked for.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::value::parse_size;

/// Something wrong in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// 1-based; 0 where no line can be named.
    pub line: usize,
    /// The key's full path, such as `target.cortex.sudo`.
    pub key: String,
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// Keys that belong to things this version does not do; refusing them by name is better than ignoring a promise such
/// as `required = true`.
const LATER: &[(&str, &str)] = &[
    ("strategy", "releases of many hosts"),
    ("parallel", "releases of many hosts"),
    ("on-failure", "releases of many hosts"),
    ("halt-after", "releases of many hosts"),
    ("role", "releases of many hosts"),
    ("after", "releases of many hosts"),
    ("canary", "releases of many hosts"),
    ("cache", "caches"),
    ("notify", "notifications"),
    ("app", "applications"),
    ("scan", "security scans"),
];

pub(super) type Table<'i> = DeTable<'i>;
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

pub(super) struct Reader<'t> {
    pub(super) text: &'t str,
    pub(super) problems: Vec<Problem>,
}

/// A table being read: its keys are taken one by one, and what is left over is unknown.
pub(super) struct Section<'r, 't, 'i> {
    pub(super) reader: &'r mut Reader<'t>,
    pub(super) table: &'r Table<'i>,
    pub(super) path: String,
    pub(super) known: BTreeSet<&'static str>,
}

impl<'t> Reader<'t> {
    pub(super) fn line(&self, offset: usize) -> usize {
        self.text
            .as_bytes()
            .iter()
            .take(offset)
            .filter(|b| **b == b'\n')
            .count()
            + 1
    }

    pub(super) fn problem(&mut self, offset: usize, key: &str, text: impl Into<String>) {
        let line = self.line(offset);
        self.problems.push(Problem {
            line,
            key: key.to_owned(),
            text: text.into(),
        });
    }

    pub(super) fn section<'r, 'i>(&'r mut self, table: &'r Table<'i>, path: &str) -> Section<'r, 't, 'i> {
        Section {
            reader: self,
            table,
            path: path.to_owned(),
            known: BTreeSet::new(),
        }
    }
}

impl<'r, 't, 'i> Section<'r, 't, 'i> {
    pub(super) fn key_path(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    pub(super) fn complain(&mut self, key: &'static str, text: impl Into<String>) {
        let offset = self.table.get(key).map_or(0, |value| value.span().start);
        let path = self.key_path(key);
        self.reader.problem(offset, &path, text);
    }

    pub(super) fn value(&mut self, key: &'static str) -> Option<&'r Value<'i>> {
        self.known.insert(key);
        self.table.get(key)
    }

    pub(super) fn integer(&mut self, key: &'static str) -> Option<i64> {
        let value = self.value(key)?;
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|i| i64::from_str_radix(i.as_str(), i.radix()).ok());
        if number.is_none() {
            self.complain(key, "must be a whole number");
        }
        number
    }

    pub(super) fn within(&mut self, key: &'static str, least: i64, most: i64) -> Option<i64> {
        let number = self.integer(key)?;
        if (least..=most).contains(&number) {
            return Some(number);
        }
        self.complain(key, format!("must be {least} to {most}, not {number}"));
        None
    }

    pub(super) fn seconds(&mut self, key: &'static str, least: i64, into: &mut Duration) {
        if let Some(number) = self.within(key, least, 7 * 24 * 3600) {
            *into = Duration::from_secs(number.unsigned_abs());
        }
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        let value = self.value(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.complain(key, "must be a string");
            return None;
        };
        if text.chars().any(char::is_control) {
            self.complain(key, "must not hold control characters");
            return None;
        }
        Some(text.to_owned())
    }

    pub(super) fn is_text(&mut self, key: &'static str, text: &str) -> bool {
        self.value(key).and_then(|value| value.get_ref().as_str()) == Some(text)
    }

    /// A string that ends up on a command line: only what `judge` takes, which says what is wrong with it.
    pub(super) fn plain(
        &mut self,
        key: &'static str,
        judge: impl Fn(&str) -> Result<(), String>,
        into: &mut String,
    ) {
        let Some(text) = self.text(key) else { return };
        match if text.is_empty() { Ok(()) } else { judge(&text) } {
            Ok(()) => *into = text,
            Err(why) => self.complain(key, why),
        }
    }

    pub(super) fn boolean(&mut self, key: &'static str, into: &mut bool) {
        if let Some(value) = self.value(key) {
            match value.get_ref().as_bool() {
                Some(value) => *into = value,
                None => self.complain(key, "must be true or false"),
            }
        }
    }

    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)], into: &mut T) {
        if let Some(text) = self.text(key) {
            match choices.iter().find(|(name, _)| *name == text) {
                Some((_, value)) => *into = *value,
                None => {
                    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
                    self.complain(key, format!("must be one of {}, not {text:?}", names.join(", ")));
                }
            }
        }
    }

    pub(super) fn size(&mut self, key: &'static str, into: &mut u64) {
        if let Some(text) = self.text(key) {
            match parse_size(&text) {
                Some(size) => *into = size,
                None => self.complain(key, format!("must be a size such as \"200MiB\", not {text:?}")),
            }
        }
    }

    pub(super) fn list(&mut self, key: &'static str) -> Option<Vec<String>> {
        let value = self.value(key)?;
        let list = strings(value);
        if list.is_none() {
            self.complain(key, "must be a list of strings");
        }
        list
    }

    pub(super) fn commands(&mut self, key: &'static str) -> Option<Vec<Vec<String>>> {
        let value = self.value(key)?;
        let commands: Option<Vec<Vec<String>>> = value.get_ref().as_array().and_then(|a| {
            a.iter()
                .map(|v| strings(v).filter(|argv| !argv.is_empty()))
                .collect()
        });
        if commands.is_none() {
            self.complain(
                key,
                "must be a list of commands, each a list of words: [[\"just\", \"secrets\"]]",
            );
        }
        commands
    }

    pub(super) fn table(&mut self, key: &'static str) -> Option<&'r Table<'i>> {
        let value = self.value(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.complain(key, "must be a table");
        }
        table
    }

    pub(super) fn has_any(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.table.contains_key(*key))
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        for (name, value) in self.table {
            let key = name.get_ref().as_ref();
            if self.known.contains(key) {
                continue;
            }
            let text = match LATER.iter().find(|(later, _)| *later == key) {
                Some((_, what)) => format!("{what} are not part of this version; remove the key"),
                None => match nearest(key, &self.known) {
                    Some(known) => format!("unknown key; did you mean `{known}`?"),
                    None => {
                        let known: Vec<&str> = self.known.iter().copied().collect();
                        format!("unknown key; known here: {}", known.join(", "))
                    }
                },
            };
            let path = self.key_path(key);
            let offset = if name.span().is_empty() {
                value.span().start
            } else {
                name.span().start
            };
            self.reader.problem(offset, &path, text);
        }
    }
}

fn strings(value: &Value<'_>) -> Option<Vec<String>> {
    value
        .get_ref()
        .as_array()?
        .iter()
        .map(|v| v.get_ref().as_str().map(str::to_owned))
        .collect()
}

fn nearest<'k>(key: &str, known: &BTreeSet<&'k str>) -> Option<&'k str> {
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(key, name), *name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .min()
        .map(|(_, name)| name)
}
