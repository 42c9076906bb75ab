//! Can the ssh port be reached at all? Asked before ssh, because "no answer" and "no login" need different people.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::process::Command;

use super::connect::{ConnectClass, ConnectError};
use super::session::ssh_arguments;
use super::{Address, Endpoint, RunDir, Session};
use crate::failure::last_lines;

/// One probe's patience, and how many there are (S0.2).
const PATIENCE: Duration = Duration::from_secs(2);
const PROBES: u32 = 3;
/// How long an answered TCP probe still waits for the advisory one.
const PING_GRACE: Duration = Duration::from_millis(300);

/// What ssh makes of a destination after reading its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    pub hostname: String,
    pub port: u16,
    pub user: String,
    /// `ProxyCommand` or `ProxyJump`, when one is in the way.
    pub proxy: Option<String>,
    /// The control socket's path with every `%` replaced.
    pub control_path: Option<String>,
}

/// Parses `ssh -G`. Keys come in lower case, one per line; `none` means unset.
pub fn parse_ssh_g(text: &str) -> Resolved {
    let mut resolved = Resolved {
        port: 22,
        ..Resolved::default()
    };
    for line in text.lines() {
        let Some((key, value)) = line.split_once(' ') else {
            continue;
        };
        let value = value.trim();
        match key {
            "hostname" => resolved.hostname = value.to_owned(),
            "port" => resolved.port = value.parse().unwrap_or(22),
            "user" => resolved.user = value.to_owned(),
            "proxycommand" | "proxyjump" if value != "none" => {
                resolved.proxy = Some(format!("{key} {value}"));
            }
            "controlpath" if value != "none" => resolved.control_path = Some(value.to_owned()),
            _ => {}
        }
    }
    resolved
}

/// Asks ssh itself, with the user's configuration and options.
#[expect(clippy::disallowed_methods, reason = "reads: ssh -G")]
pub(super) async fn resolve(endpoint: &Endpoint, control_path: &str) -> Result<Resolved, ConnectError> {
    let mut arguments = vec!["-G".to_owned()];
    arguments.extend(ssh_arguments(endpoint, control_path));
    let run = Command::new("ssh")
        .args(&arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let other = |line: String| ConnectError::new(ConnectClass::Other, vec![line]);
    let output = match tokio::time::timeout(Duration::from_secs(10), run).await {
        Err(_) => {
            return Err(other(
                "ssh -G did not end within 10 s (a `Match exec` in ssh_config?)".into(),
            ));
        }
        Ok(Err(error)) => return Err(other(format!("cannot run ssh: {error}"))),
        Ok(Ok(output)) => output,
    };
    if !output.status.success() {
        return Err(ConnectError::new(
            ConnectClass::Other,
            last_lines(&String::from_utf8_lossy(&output.stderr), 4),
        ));
    }
    Ok(parse_ssh_g(&String::from_utf8_lossy(&output.stdout)))
}

/// The advisory ICMP probe's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Icmp {
    Answered,
    /// No answer: filtered, or the host is away.
    Silent,
    /// Not tried to the end: no `ping` here.
    Unknown,
}

/// Whether a host's ssh port answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// `millis` of the probe that succeeded, and how many were sent.
    Passed { millis: u64, probes: u32, icmp: Icmp },
    Failed {
        class: ConnectClass,
        text: String,
        icmp: Icmp,
    },
    /// Not decidable from here, with the reason.
    Skipped { reason: String },
}

/// Up to three TCP probes of two seconds to the ssh port, passed on the first success; one ping beside them, advisory.
pub async fn tcp_probe(endpoint: &Endpoint) -> Probe {
    if endpoint.host == Address::Local {
        return Probe::Skipped {
            reason: "local target".into(),
        };
    }
    probe_at(&resolve(endpoint, "none").await).await
}

/// The same of what ssh makes of an endpoint.
pub(super) async fn probe_at(resolved: &Result<Resolved, ConnectError>) -> Probe {
    let resolved = match resolved {
        Ok(resolved) => resolved,
        Err(error) => {
            return Probe::Failed {
                class: error.class,
                text: error.lines.join("; "),
                icmp: Icmp::Unknown,
            };
        }
    };
    if let Some(proxy) = &resolved.proxy {
        let word = proxy.split(' ').next().unwrap_or_default().to_owned();
        return Probe::Skipped {
            reason: format!("reached through ssh's {word}"),
        };
    }
    let ping = tokio::spawn(ping(resolved.hostname.clone()));
    let (class, text) = match probes(&resolved.hostname, resolved.port).await {
        Ok((millis, probes)) => {
            let icmp = match tokio::time::timeout(PING_GRACE, ping).await {
                Ok(joined) => joined.unwrap_or(Icmp::Unknown),
                Err(_) => Icmp::Silent,
            };
            return Probe::Passed { millis, probes, icmp };
        }
        Err(failed) => failed,
    };
    Probe::Failed {
        class,
        text,
        icmp: ping.await.unwrap_or(Icmp::Unknown),
    }
}

/// Milliseconds and number of the probe that got through, or why the last one did not.
#[expect(clippy::disallowed_methods, reason = "reads: whether a port answers")]
async fn probes(host: &str, port: u16) -> Result<(u64, u32), (ConnectClass, String)> {
    let mut last = (ConnectClass::Timeout, String::new());
    for number in 1..=PROBES {
        let started = Instant::now();
        last = match tokio::time::timeout(PATIENCE, TcpStream::connect((host, port))).await {
            Ok(Ok(_)) => return Ok((started.elapsed().as_millis() as u64, number)),
            Err(_) => (ConnectClass::Timeout, format!("port {port}: no answer")),
            Ok(Err(error)) => (
                ConnectError::from_stderr(&kind_words(&error)).class,
                error.to_string(),
            ),
        };
        if last.0 == ConnectClass::Other {
            // The resolver's words differ from system to system.
            last.0 = ConnectClass::Unresolved;
        }
        if started.elapsed() < PATIENCE && number < PROBES {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    Err(last)
}

/// Asks the ssh port and opens a session side by side.
pub async fn probe_and_open(endpoint: &Endpoint, dir: &RunDir) -> (Probe, Result<Session, ConnectError>) {
    if endpoint.host == Address::Local {
        return (tcp_probe(endpoint).await, Session::open(endpoint, dir).await);
    }
    Session::open_and_probe(endpoint, dir).await
}

/// The words that ssh would use, so that one table classifies both.
fn kind_words(error: &std::io::Error) -> String {
    use std::io::ErrorKind::*;
    match error.kind() {
        ConnectionRefused => "Connection refused".into(),
        HostUnreachable => "No route to host".into(),
        NetworkUnreachable => "Network is unreachable".into(),
        TimedOut => "Connection timed out".into(),
        _ => error.to_string(),
    }
}

#[expect(clippy::disallowed_methods, reason = "reads: whether a host answers")]
async fn ping(host: String) -> Icmp {
    let run = Command::new("ping")
        .args(["-n", "-c1", "-W1", "--", &host])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    match tokio::time::timeout(Duration::from_secs(2), run).await {
        Ok(Ok(status)) if status.success() => Icmp::Answered,
        Ok(Ok(status)) if status.code() == Some(1) => Icmp::Silent,
        Err(_) => Icmp::Silent,
        _ => Icmp::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_g_is_read() {
        let text = "host cortex\nuser jarvis\nhostname 10.0.0.7\nport 2222\nproxycommand nc -x a:1 %h %p\n\
                    controlpath /tmp/nixgate-a/29d02d\nproxyjump none\n";
        let resolved = parse_ssh_g(text);
        assert_eq!(resolved.hostname, "10.0.0.7");
        assert_eq!(resolved.port, 2222);
        assert_eq!(resolved.user, "jarvis");
        assert_eq!(resolved.proxy.as_deref(), Some("proxycommand nc -x a:1 %h %p"));
        assert_eq!(resolved.control_path.as_deref(), Some("/tmp/nixgate-a/29d02d"));
    }

    #[test]
    fn none_is_no_proxy_and_no_socket() {
        let resolved = parse_ssh_g("hostname a\nproxyjump none\nproxycommand none\ncontrolpath none\n");
        assert_eq!(resolved.proxy, None);
        assert_eq!(resolved.control_path, None);
        assert_eq!(resolved.port, 22);
    }

    #[tokio::test]
    async fn an_open_port_passes_on_the_first_probe_and_a_closed_one_is_refused() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("bind");
        let port = listener.local_addr().expect("address").port();
        assert_eq!(probes("127.0.0.1", port).await.map(|(_, probes)| probes), Ok(1));
        // Bound and not listening: nobody else can take the port meanwhile.
        let closed = tokio::net::TcpSocket::new_v4().expect("a socket");
        closed.bind(([127, 0, 0, 1], 0).into()).expect("bound");
        let port = closed.local_addr().expect("address").port();
        assert_eq!(
            probes("127.0.0.1", port).await.map_err(|(class, _)| class),
            Err(ConnectClass::Refused)
        );
    }
}
