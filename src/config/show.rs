//! The file as `config show` prints it, and as `init` first writes it.

use std::collections::BTreeSet;

use super::{Config, FILE, Settings};
use crate::record::Target;

/// The whole configuration with every default filled in. What `config show` prints; not read back.
pub fn to_toml(config: &Config) -> String {
    // The types hold nothing that TOML cannot say: no unit values, string keys only.
    toml::to_string_pretty(&Shown {
        version: 1,
        hooks: &config.hooks,
        target: &config.targets,
    })
    .unwrap_or_else(|error| format!("# {error}\n"))
}

#[derive(serde::Serialize)]
struct Shown<'a> {
    version: u8,
    hooks: &'a super::Hooks,
    target: &'a std::collections::BTreeMap<Target, super::Settings>,
}

/// A first `.nixgate.toml` for these `nixosConfigurations`: only what has no default, and what is not as by default.
/// Attributes that come to one label are numbered.
pub fn starter(attributes: &[String], flake: &str, remote: &str) -> String {
    let mut text = format!("# {FILE}: every key and its default: `git nixgate config show`\nversion = 1\n");
    let settings = Settings::default();
    let kept = [
        ("flake", flake, settings.flake.as_str()),
        ("remote", remote, settings.remote.as_str()),
    ];
    let kept: String = kept
        .iter()
        .filter(|(_, value, default)| value != default)
        .map(|(key, value, _)| format!("{key} = {}\n", toml::Value::from(*value)))
        .collect();
    if !kept.is_empty() {
        text.push_str(&format!("\n[defaults]\n{kept}"));
    }
    // Whoever is spelled like a label has it.
    let is_label = |attribute: &&String| attribute.parse::<Target>().is_ok();
    let mut taken: BTreeSet<String> = attributes.iter().filter(is_label).cloned().collect();
    for attribute in attributes {
        if is_label(&attribute) {
            text.push_str(&format!("\n[target.{attribute}]\n"));
            continue;
        }
        let label = as_target_name(attribute);
        let mut name = label.clone();
        let mut number = 1;
        while !taken.insert(name.clone()) {
            number += 1;
            let end = format!("-{number}");
            let short: String = label.chars().take(63 - end.len()).collect();
            name = format!("{}{end}", short.trim_end_matches('-'));
        }
        let attr = toml::Value::String(attribute.clone());
        text.push_str(&format!("\n[target.{name}]\nattr = {attr}\n"));
    }
    text
}

/// The nearest host-name label to a flake attribute of another spelling.
fn as_target_name(attribute: &str) -> String {
    let label: String = attribute
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    let label = label.trim_matches('-');
    if label.is_empty() {
        "host".to_owned()
    } else {
        label.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn the_starter_is_valid_and_keeps_other_spellings() {
        let names = ["cortex".to_owned(), "My_Laptop".to_owned()];
        let text = starter(&names, ".", "origin");
        assert!(!text.contains("[defaults]"), "{text}");
        let config = parse(&text).unwrap();
        let attrs: Vec<_> = config
            .targets
            .iter()
            .map(|(t, s)| (t.as_str(), s.attr.as_str()))
            .collect();
        assert_eq!(attrs, [("cortex", "cortex"), ("my-laptop", "My_Laptop")]);
    }

    #[test]
    fn the_starter_keeps_what_was_asked_for_and_gives_no_label_twice() {
        let long = "X".repeat(70);
        let names = [
            "My_Host",
            "my-host",
            "my.host",
            "my-host-2",
            "host",
            "_",
            &long,
            &long[1..],
        ];
        let text = starter(&names.map(str::to_owned), "nix/\"hosts\"", "upstream");
        let config = parse(&text).unwrap_or_else(|problems| panic!("{problems:?}: {text}"));
        let found: Vec<_> = config
            .targets
            .iter()
            .map(|(t, s)| {
                assert_eq!(
                    (s.flake.as_str(), s.remote.as_str()),
                    ("nix/\"hosts\"", "upstream")
                );
                (t.as_str(), s.attr.as_str())
            })
            .collect();
        assert_eq!(found.len(), names.len(), "{text}");
        for pair in [
            ("my-host", "my-host"),
            ("my-host-2", "my-host-2"),
            ("my-host-3", "My_Host"),
            ("my-host-4", "my.host"),
            ("host-2", "_"),
        ] {
            assert!(found.contains(&pair), "{found:?}");
        }
    }

    #[test]
    fn everything_shown_is_understood() {
        let config = parse("version = 1\n[[check]]\nrun = [\"a\", \"b\"]\n[target.cortex]\n").unwrap();
        assert_eq!(parse(&to_toml(&config)).unwrap(), config);
    }
}
