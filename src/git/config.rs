//! The user's git configuration, read in one call.

use std::collections::HashMap;
use std::sync::Arc;

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

    /// Every key with each of its values; section and last part in lower case.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let values = self.values.iter();
        values.flat_map(|(key, values)| {
            values
                .iter()
                .flatten()
                .map(|value| (key.as_str(), value.as_str()))
        })
    }

    /// Whether any remote is configured.
    pub fn has_remotes(&self) -> bool {
        self.values
            .keys()
            .any(|key| key.starts_with("remote.") && (key.ends_with(".url") || key.ends_with(".pushurl")))
    }

    /// The one URL of a remote, where nothing rewrites it and nothing else is pushed to; `None`: ask git.
    pub fn plain_url(&self, remote: &str) -> Option<&str> {
        let rewritten = self.values.keys().any(|key| key.starts_with("url."));
        let [url] = self.all(&format!("remote.{remote}.url"))[..] else {
            return None;
        };
        let pushes = self.values.contains_key(&format!("remote.{remote}.pushurl"));
        (!rewritten && !pushes && !url.is_empty()).then_some(url)
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
    pub fn config(&self) -> Result<Arc<Config>, Failure> {
        let what = "git's configuration cannot be read";
        self.program
            .config()
            .map_err(|broken| broken.failure(what))?
            .map_err(|output| super::program::failed(what, &output))
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

    #[test]
    fn a_url_is_plain_where_nothing_rewrites_it() {
        let url = |more: &str| {
            let text = format!("remote.Or.igin.url\na:b\0{more}");
            Config::parse(text.as_bytes())
                .plain_url("Or.igin")
                .map(str::to_owned)
        };
        assert_eq!(url(""), Some("a:b".to_owned()));
        assert_eq!(url("remote.Or.igin.url\nc:d\0"), None);
        assert_eq!(url("remote.Or.igin.pushurl\nc:d\0"), None);
        assert_eq!(url("url.ssh://x/.insteadof\na:\0"), None);
        assert_eq!(url("url.ssh://x/.pushinsteadof\na:\0"), None);
    }
}
