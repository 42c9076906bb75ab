//! The file as `config show` prints it, and as `init` first writes it.

use super::{Config, FILE};
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

/// A first `.nixgate.toml` for these `nixosConfigurations`: only what has no default.
pub fn starter(attributes: &[String]) -> String {
    let mut text = format!("# {FILE}: every key and its default: `git nixgate config show`\nversion = 1\n");
    for attribute in attributes {
        match attribute.parse::<Target>() {
            Ok(target) => text.push_str(&format!("\n[target.{target}]\n")),
            Err(_) => {
                let name = as_target_name(attribute);
                let attr = toml::Value::String(attribute.clone());
                text.push_str(&format!("\n[target.{name}]\nattr = {attr}\n"));
            }
        }
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
        let config = parse(&starter(&names)).unwrap();
        let attrs: Vec<_> = config
            .targets
            .iter()
            .map(|(t, s)| (t.as_str(), s.attr.as_str()))
            .collect();
        assert_eq!(attrs, [("cortex", "cortex"), ("my-laptop", "My_Laptop")]);
    }

    #[test]
    fn everything_shown_is_understood() {
        let config = parse("version = 1\n[[check]]\nrun = [\"a\", \"b\"]\n[target.cortex]\n").unwrap();
        assert_eq!(parse(&to_toml(&config)).unwrap(), config);
    }
}
