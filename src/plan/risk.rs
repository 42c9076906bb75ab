//! Which units can take the way to a host with them when they are stopped or restarted.

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
