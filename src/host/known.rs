//! The keys by which this machine knows a host: what its name means to somebody else is told by them, not by the name.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::probe::Resolved;

/// The host keys of the known_hosts files that ssh reads for it, as `TYPE BASE64`, without doubles. None where the host is
/// known in another way (a certificate, DNS, a command).
#[expect(clippy::disallowed_methods, reason = "reads: ssh-keygen -F")]
pub(super) async fn host_keys(resolved: &Resolved) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for file in &resolved.known_hosts {
        for name in names(resolved) {
            let run = Command::new("ssh-keygen")
                .args(["-F", &name, "-f", file])
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .output();
            let Ok(Ok(output)) = tokio::time::timeout(Duration::from_secs(2), run).await else {
                continue;
            };
            let Some(found) = parse(&String::from_utf8_lossy(&output.stdout)) else {
                return Vec::new();
            };
            keys.extend(found);
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

/// How ssh looks a host up (sshconnect.c, `check_host_key`): by its alias, else with the port and then without.
fn names(resolved: &Resolved) -> Vec<String> {
    let bare = resolved.hostname.to_lowercase();
    match (&resolved.host_key_alias, resolved.port) {
        (Some(alias), _) => vec![alias.clone()],
        (None, 22) => vec![bare],
        (None, port) => vec![format!("[{bare}]:{port}"), bare],
    }
}

/// The keys in what `ssh-keygen -F` prints (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). `None`: a certificate authority vouches.
fn parse(text: &str) -> Option<Vec<String>> {
    let mut keys = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("@cert-authority") => return None,
            Some("@revoked") | None => continue,
            Some(_) => {}
        }
        if let (Some(kind), Some(key)) = (words.next(), words.next()) {
            keys.push(format!("{kind} {key}"));
        }
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h8_a_host_is_known_by_its_keys_and_not_by_revoked_ones() {
        let text = "# Host cortex found: line 4\ncortex,10.77.0.20 ssh-ed25519 AAAA1 comment\n\
                    |1|salt=|hash= ssh-rsa AAAA2\n@revoked cortex ssh-ed25519 AAAA3\n";
        assert_eq!(
            parse(text),
            Some(vec!["ssh-ed25519 AAAA1".to_owned(), "ssh-rsa AAAA2".to_owned()])
        );
        assert_eq!(parse("@cert-authority *.example.org ssh-ed25519 AAAA4\n"), None);
        assert_eq!(parse(""), Some(Vec::new()));
    }

    #[test]
    fn h8_a_host_is_looked_up_as_ssh_does() {
        let mut resolved = Resolved {
            hostname: "Cortex".into(),
            port: 22,
            ..Resolved::default()
        };
        assert_eq!(names(&resolved), ["cortex"]);
        resolved.port = 2222;
        assert_eq!(names(&resolved), ["[cortex]:2222", "cortex"]);
        resolved.host_key_alias = Some("c".into());
        assert_eq!(names(&resolved), ["c"]);
    }
}
