//! Which changes can take the way to a host with them: units that are stopped or restarted, parts of the system.

use crate::diff::Part;
use std::collections::BTreeSet;
use std::fmt;

/// Stems of unit names (NixOS modules' and systemd's own) that carry the login, the network, or the bus that
/// `switch-to-configuration` itself talks over.
const STEMS: &[(&str, &str)] = &[
    ("sshd", "the way in"),
    ("ssh", "the way in"),
    ("tailscaled", "the way in over Tailscale"),
    ("wireguard", "the way in over WireGuard"),
    ("wg-quick", "the way in over WireGuard"),
    ("openvpn", "the way in over OpenVPN"),
    ("zerotierone", "the way in over ZeroTier"),
    ("nebula", "the way in over Nebula"),
    ("systemd-networkd", "the network"),
    ("systemd-resolved", "name lookups"),
    ("NetworkManager", "the network"),
    ("network", "the network"),
    ("dhcpcd", "the network"),
    ("wpa_supplicant", "the network"),
    ("iwd", "the network"),
    ("firewall", "the firewall"),
    ("nftables", "the firewall"),
    ("iptables", "the firewall"),
    ("dbus", "the bus"),
    ("dbus-broker", "the bus"),
    ("systemd-logind", "logins"),
    ("polkit", "privileges"),
    ("nix-daemon", "the store"),
];

/// Why a unit is risky, or `None`. Takes the full name, such as `network-addresses-eth0.service`.
pub fn risky(unit: &str) -> Option<&'static str> {
    let stem = unit.rsplit_once('.').map_or(unit, |(stem, _)| stem);
    STEMS
        .iter()
        .find(|(name, _)| is_of(stem, name))
        .map(|(_, why)| *why)
}

/// How much a change can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// Only packages.
    Low,
    /// Units or files in `/etc`.
    Medium,
    /// The kernel, the way in, or what everything else hangs from.
    High,
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Risk::Low => "LOW",
            Risk::Medium => "MEDIUM",
            Risk::High => "HIGH",
        })
    }
}

/// Files in `/etc` that decide who gets in, by the beginning of their names.
const FILES: &[(&str, &str)] = &[
    ("sshd_config", "the way in"),
    ("sudoers", "privileges"),
    ("nftables", "the firewall"),
    ("resolv.conf", "name lookups"),
    ("pam", "logins"),
];

/// The risk of a change in these parts of a system, and what makes it that.
pub fn risk_of<'a>(parts: impl IntoIterator<Item = &'a Part>) -> (Risk, Vec<String>) {
    let mut high = BTreeSet::new();
    let mut medium = BTreeSet::new();
    for part in parts {
        let why = match part {
            Part::Kernel | Part::Initrd | Part::Systemd | Part::Users | Part::Firewall => Some(part.word()),
            Part::Unit(unit) => risky(unit).map(|why| format!("{unit} ({why})")),
            Part::Etc(entry) => {
                let known = FILES.iter().find(|(name, _)| is_file(entry, name));
                known.map(|(_, why)| format!("/etc: {entry} ({why})"))
            }
            Part::System | Part::Source | Part::Package => continue,
        };
        match why {
            Some(why) => high.insert(why),
            None => medium.insert(part.word()),
        };
    }
    match (high.is_empty(), medium.is_empty()) {
        (false, _) => (Risk::High, high.into_iter().collect()),
        (true, false) => (Risk::Medium, medium.into_iter().collect()),
        (true, true) => (Risk::Low, Vec::new()),
    }
}

/// `sshd_config` matches `sshd_config`, `ssh/sshd_config` and, as NixOS names its derivation, `ssh-sshd_config`.
fn is_file(entry: &str, name: &str) -> bool {
    let parts = entry.match_indices(['/', '-']).map(|(at, _)| &entry[at + 1..]);
    std::iter::once(entry)
        .chain(parts)
        .any(|part| part.starts_with(name))
}

/// `network` matches `network`, `network-setup` and `network@eth0`, not `networkd-dispatcher`.
fn is_of(stem: &str, name: &str) -> bool {
    match stem.strip_prefix(name) {
        Some("") => true,
        // `ssh-agent` and `dbus-…` helpers of a user session are not the way in; only the network's and the VPNs'
        // families are spread over several units.
        Some(rest) if rest.starts_with('@') || rest.starts_with('-') => {
            rest.starts_with('@')
                || matches!(
                    name,
                    "network" | "wireguard" | "wg-quick" | "openvpn" | "nebula" | "firewall"
                )
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s1_11_the_way_in_is_risky_and_an_app_is_not() {
        for unit in [
            "sshd.service",
            "sshd@7.service",
            "sshd.socket",
            "tailscaled.service",
            "network-setup.service",
            "network-addresses-eth0.service",
            "wg-quick-wg0.service",
            "dbus.service",
            "dbus-broker.service",
            "firewall.service",
            "systemd-networkd.service",
            "NetworkManager.service",
            "nix-daemon.service",
        ] {
            assert!(risky(unit).is_some(), "{unit}");
        }
        for unit in [
            "nginx.service",
            "networkd-dispatcher.service",
            "ssh-agent.service",
            "app.service",
            "",
            ".",
        ] {
            assert_eq!(risky(unit), None, "{unit}");
        }
    }

    #[test]
    fn s4_9_kernel_network_sshd_and_systemd_are_high() {
        let unit = |name: &str| Part::Unit(name.into());
        let risk = |parts: &[Part]| risk_of(parts).0;
        for part in [
            Part::Kernel,
            Part::Initrd,
            Part::Systemd,
            Part::Users,
            Part::Firewall,
            unit("sshd.service"),
            unit("network-addresses-eth0.service"),
            Part::Etc("sshd_config".into()),
            Part::Etc("sudoers".into()),
            Part::Etc("ssh/sshd_config".into()),
            Part::Etc("ssh-sshd_config".into()),
            Part::Etc("pam.d/login".into()),
        ] {
            assert_eq!(
                risk(&[Part::Package, unit("app.service"), part.clone()]),
                Risk::High,
                "{part:?}"
            );
        }
        assert_eq!(risk(&[unit("app.service")]), Risk::Medium);
        assert_eq!(risk(&[Part::Etc("app.conf".into())]), Risk::Medium);
        assert_eq!(risk(&[Part::Package, Part::System, Part::Source]), Risk::Low);
        assert_eq!(risk(&[]), Risk::Low);
        let (_, why) = risk_of(&[Part::Kernel, unit("sshd.service"), unit("app.service")]);
        assert_eq!(why, ["kernel", "sshd.service (the way in)"]);
    }

    #[test]
    fn every_way_in_has_its_unit_and_its_reason() {
        for (unit, why) in [
            ("iwd.service", "the network"),
            ("wpa_supplicant.service", "the network"),
            ("dhcpcd.service", "the network"),
            ("systemd-resolved.service", "name lookups"),
            ("nftables.service", "the firewall"),
            ("iptables.service", "the firewall"),
            ("ssh.service", "the way in"),
            ("zerotierone.service", "the way in over ZeroTier"),
            ("systemd-logind.service", "logins"),
            ("polkit.service", "privileges"),
            // Families of several units.
            ("wireguard-wg0.service", "the way in over WireGuard"),
            ("openvpn-home.service", "the way in over OpenVPN"),
            ("nebula-mesh.service", "the way in over Nebula"),
            ("nebula@mesh.service", "the way in over Nebula"),
            ("firewall-reload.service", "the firewall"),
            // An interface with a full stop in its name (a VLAN).
            ("network-addresses-eth0.7.service", "the network"),
            ("sshd@4-10.0.0.2:22-10.0.0.9:50000.service", "the way in"),
        ] {
            assert_eq!(risky(unit), Some(why), "{unit}");
        }
        for unit in [
            "sshd-keygen.service",
            "iwd-monitor.service",
            "dbus-update.service",
            "firewalld.service",
            // Only the last full stop ends the name.
            "ssh.keys-of-app.service",
        ] {
            assert_eq!(risky(unit), None, "{unit}");
        }
    }
}
