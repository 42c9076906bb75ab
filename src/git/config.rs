//! The user's git configuration, read in one call.

use std::collections::HashMap;

use super::repo::Repo;
use crate::failure::Failure;

/// Every value of the configuration, in git's order of precedence.
#[derive(Debug, Clone, Default)]
pub struct Config {
    values: HashMap<String, Vec<Option<String>>>,
}

impl Config {
    /// Reads the output of `git config --list -z`.
    pub fn parse(list: &[u8]) -> Config {
        let mut values: HashMap<String, Vec<Option<String>>> = HashMap::new();
        for entry in list.split(|b| *b == 0).filter(|e| !e.is_empty()) {
            let entry = String::from_utf8_lossy(entry);
            let (key, value) = match entry.split_once('\n') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (entry.as_ref(), None),
            };
            values.entry(normal(key)).or_default().push(value);
        }
        Config { values }
    }

    /// The value that counts.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(&normal(key))?.last()?.as_deref()
    }

    /// Whether any remote is configured.
    pub fn has_remotes(&self) -> bool {
        self.values
            .keys()
            .any(|key| key.starts_with("remote.") && (key.ends_with(".url") || key.ends_with(".pushurl")))
    }

    pub fn all(&self, key: &str) -> Vec<&str> {
        self.values
            .get(&normal(key))
            .into_iter()
            .flatten()
            .filter_map(Option::as_deref)
            .collect()
    }

    /// A boolean as git reads it: a key without a value is true.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.values.get(&normal(key))?.last()? {
            None => Some(true),
            Some(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" => Some(true),
                "false" | "no" | "off" | "" => Some(false),
                other => other.parse::<i64>().ok().map(|n| n != 0),
            },
        }
    }
}

/// Section and key know no case, what stands between the dots does.
fn normal(key: &str) -> String {
    match (key.find('.'), key.rfind('.')) {
        (Some(first), Some(last)) if first < last => {
            format!(
                "{}{}{}",
                key[..first].to_lowercase(),
                &key[first..last],
                key[last..].to_lowercase()
            )
        }
        _ => key.to_lowercase(),
    }
}

impl Repo {
    /// The configuration as git itself sees it here, `-c` and environment included.
    pub fn config(&self) -> Result<Config, Failure> {
        let output = self.program.need(
            "git's configuration cannot be read",
            &["config", "--list", "-z"],
            b"",
        )?;
        Ok(Config::parse(&output.stdout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts_and_case_only_in_the_middle() {
        let config =
            Config::parse(b"tag.gpgsign\nfalse\0tag.gpgsign\ntrue\0remote.Origin.url\na\nb\0core.bare\0");
        assert_eq!(config.bool("tag.gpgSign"), Some(true));
        assert_eq!(config.get("remote.Origin.URL"), Some("a\nb"));
        assert_eq!(config.get("remote.origin.url"), None);
        assert_eq!(config.bool("core.bare"), Some(true));
        assert_eq!(config.bool("no.such"), None);
    }
}
