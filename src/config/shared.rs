//! Targets that lead to one host: each release of one would put its system over the other's.

use super::{Config, Settings};
use crate::record::Target;

/// Pairs of targets that are one host by what the file says: the same name or address and port by the same way, or the
/// same host key. A `HostKeyAlias` of its own makes a host of its own (several behind one address).
pub fn shared_hosts(config: &Config) -> Vec<(&Target, &Target)> {
    let all: Vec<(&Target, &Settings)> = config.targets.iter().collect();
    let mut found = Vec::new();
    for (n, (first, one)) in all.iter().enumerate() {
        for (second, other) in &all[n + 1..] {
            if same(one, other) {
                found.push((*first, *second));
            }
        }
    }
    found
}

fn same(one: &Settings, other: &Settings) -> bool {
    let alias = |settings: &Settings| settings.ssh_option("HostKeyAlias").map(str::to_lowercase);
    match (alias(one), alias(other)) {
        (Some(a), Some(b)) => a == b,
        _ => place(one) == place(other),
    }
}

/// Name or address, port, and the hosts on the way.
fn place(settings: &Settings) -> (String, u16, String) {
    let name = settings
        .ssh_option("HostName")
        .unwrap_or(settings.host.as_str())
        .trim_end_matches('.')
        .to_lowercase();
    let name = name
        .parse::<std::net::IpAddr>()
        .map_or(name, |address| address.to_string());
    let port = settings.ssh_option("Port").and_then(|port| port.parse().ok());
    let jump = settings.ssh_option("ProxyJump").unwrap_or("none").to_lowercase();
    (name, settings.host.port().or(port).unwrap_or(22), jump)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn k8_two_targets_are_one_host_where_name_port_and_key_agree() {
        for (one, other, wanted) in [
            ("host = \"cortex\"", "host = \"CORTEX.:22\"", true),
            (
                "host = \"root@10.0.0.7\"",
                "ssh-options = [\"HostName=10.0.0.7\"]",
                true,
            ),
            ("host = \"fd00:0::7\"", "host = \"[fd00::7]:22\"", true),
            ("host = \"local\"", "host = \"local\"", true),
            ("", "host = \"a\"", true),
            (
                "host = \"x\"\nssh-options = [\"HostKeyAlias=k\"]",
                "ssh-options = [\"HostKeyAlias=K\"]",
                true,
            ),
            ("host = \"x\"", "host = \"y\"", false),
            ("host = \"x:22\"", "host = \"x:2222\"", false),
            (
                "host = \"x\"",
                "host = \"x\"\nssh-options = [\"Port=2222\"]",
                false,
            ),
            (
                "host = \"x\"",
                "host = \"x\"\nssh-options = [\"ProxyJump=j\"]",
                false,
            ),
            (
                "host = \"x\"\nssh-options = [\"HostKeyAlias=a\"]",
                "host = \"x\"\nssh-options = [\"HostKeyAlias=b\"]",
                false,
            ),
        ] {
            let text = format!("version = 1\n[target.a]\n{one}\n[target.b]\n{other}\n[target.c]\n");
            let config = parse(&text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
            let found: Vec<[&str; 2]> = shared_hosts(&config)
                .into_iter()
                .map(|(a, b)| [a.as_str(), b.as_str()])
                .collect();
            assert_eq!(!found.is_empty(), wanted, "{text}");
            assert!(found.iter().all(|pair| *pair == ["a", "b"]), "{found:?}");
        }
    }
}
