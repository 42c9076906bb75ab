//! Can the ssh port be reached at all? Asked beside ssh, because "no answer" and "no login" need different people.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::connect::{ConnectClass, ConnectError};
use super::master::{LogLevel, ssh_arguments};
use super::{Address, Addresses, Endpoint, Family, RunDir, Session, Way};
use crate::failure::last_lines;

/// One probe's patience, and how many there are (S0.2).
const PATIENCE: Duration = Duration::from_secs(2);
const PROBES: u32 = 3;
/// How long an answered TCP probe still waits for the advisory one, and for the addresses of the other family.
pub(super) const GRACE: Duration = Duration::from_millis(300);

/// What ssh makes of a destination after reading its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    pub hostname: String,
    pub port: u16,
    pub user: String,
    /// `AddressFamily`: only addresses of this family are tried.
    pub family: Option<Family>,
    /// `ProxyCommand` or `ProxyJump`, when one is in the way.
    pub proxy: Option<String>,
    /// The control socket's path with every `%` replaced.
    pub control_path: Option<String>,
    /// `HostKeyAlias`: the name that the host's keys are known by.
    pub host_key_alias: Option<String>,
    /// The files of known hosts, the user's first.
    pub known_hosts: Vec<String>,
}

impl Resolved {
    /// It leads to this machine itself, so that the same name leads elsewhere from anywhere else.
    pub fn is_loopback(&self) -> bool {
        let address: Option<std::net::IpAddr> = self.hostname.parse().ok();
        let name = self.hostname.eq_ignore_ascii_case("localhost");
        name || address.is_some_and(|address| address.is_loopback())
    }
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
            "addressfamily" if value == "inet" => resolved.family = Some(Family::Inet),
            "addressfamily" if value == "inet6" => resolved.family = Some(Family::Inet6),
            "proxycommand" | "proxyjump" if value != "none" => {
                resolved.proxy = Some(format!("{key} {value}"));
            }
            "controlpath" if value != "none" => resolved.control_path = Some(value.to_owned()),
            "hostkeyalias" if value != "none" => resolved.host_key_alias = Some(value.to_owned()),
            "userknownhostsfile" | "globalknownhostsfile" => {
                let files = value.split_ascii_whitespace().filter(|file| *file != "none");
                match key.starts_with('u') {
                    true => resolved
                        .known_hosts
                        .splice(0..0, files.map(str::to_owned))
                        .for_each(drop),
                    false => resolved.known_hosts.extend(files.map(str::to_owned)),
                }
            }
            _ => {}
        }
    }
    resolved
}

/// Asks ssh itself, with the user's configuration and options.
#[expect(clippy::disallowed_methods, reason = "reads: ssh -G")]
pub(super) async fn resolve(endpoint: &Endpoint, control_path: &str) -> Result<Resolved, ConnectError> {
    let mut arguments = vec!["-G".to_owned()];
    arguments.extend(ssh_arguments(endpoint, control_path, LogLevel::Error));
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

/// What ssh makes of an endpoint, and where that leads.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub resolved: Resolved,
    /// In the order in which ssh tries them; none where a proxy leads there, or where the name is not known.
    pub addresses: Vec<SocketAddr>,
}

/// Asks ssh and the resolver.
///
/// # Errors
/// ssh does not take the configuration.
pub(super) async fn route(endpoint: &Endpoint, control_path: &str) -> Result<Route, ConnectError> {
    let resolved = resolve(endpoint, control_path).await?;
    let mut addresses = Vec::new();
    if resolved.proxy.is_none() {
        let asked = tokio::net::lookup_host((resolved.hostname.as_str(), resolved.port));
        // A name that is not known, or a resolver that does not answer, is ssh's to tell.
        if let Ok(Ok(found)) = tokio::time::timeout(PATIENCE, asked).await {
            addresses.extend(
                found.filter(|address| resolved.family.is_none_or(|family| Family::of(address) == family)),
            );
        }
    }
    if endpoint.way.known().family.is_none() {
        endpoint.way.learn(Addresses {
            family: None,
            count: addresses.len() as u32,
        });
    }
    Ok(Route { resolved, addresses })
}

/// Whether ssh may hang at an address of one family while the other one answers.
pub(super) fn is_mixed(addresses: &[SocketAddr]) -> bool {
    let mut families = addresses.iter().map(Family::of);
    let first = families.next();
    families.any(|family| Some(family) != first)
}

/// Up to three TCP probes of two seconds to the ssh port, passed on the first success; one ping beside them, advisory.
pub async fn tcp_probe(endpoint: &Endpoint) -> Probe {
    if endpoint.host == Address::Local {
        return Probe::Skipped {
            reason: "local target".into(),
        };
    }
    probe_at(&route(endpoint, "none").await, &endpoint.way).await
}

/// The same of what ssh makes of an endpoint. All addresses are asked side by side; where one family alone answers,
/// `way` is told.
pub(super) async fn probe_at(route: &Result<Route, ConnectError>, way: &Way) -> Probe {
    let route = match route {
        Ok(route) => route,
        Err(error) => {
            return Probe::Failed {
                class: error.class,
                text: error.lines.join("; "),
                icmp: Icmp::Unknown,
            };
        }
    };
    let resolved = &route.resolved;
    if let Some(proxy) = &resolved.proxy {
        let word = proxy.split(' ').next().unwrap_or_default().to_owned();
        return Probe::Skipped {
            reason: format!("reached through ssh's {word}"),
        };
    }
    let ping = tokio::spawn(ping(resolved.hostname.clone()));
    let (class, text) = match probes(&route.addresses, way).await {
        Ok((millis, probes)) => {
            let icmp = match tokio::time::timeout(GRACE, ping).await {
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
async fn probes(addresses: &[SocketAddr], way: &Way) -> Result<(u64, u32), Refusal> {
    if addresses.is_empty() {
        return Err((ConnectClass::Unresolved, "the name is not known here".into()));
    }
    let mut last = (ConnectClass::Timeout, String::new());
    for number in 1..=PROBES {
        let started = Instant::now();
        last = match race(addresses, way).await {
            Ok(millis) => return Ok((millis, number)),
            Err(failed) => failed,
        };
        if started.elapsed() < PATIENCE && number < PROBES {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    Err(last)
}

/// Asks all addresses at once: milliseconds until the first one answered, or the most telling of the refusals.
#[expect(clippy::disallowed_methods, reason = "reads: whether a port answers")]
async fn race(addresses: &[SocketAddr], way: &Way) -> Result<u64, Refusal> {
    let started = Instant::now();
    let mut asked = Asked::new();
    for address in addresses.iter().copied() {
        asked.spawn(async move {
            let answer = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await;
            let class = match answer {
                Ok(Ok(_)) => return (address, Ok(())),
                Err(_) => return (address, Err((ConnectClass::Timeout, "no answer".to_owned()))),
                Ok(Err(error)) => (
                    ConnectError::from_stderr(&kind_words(&error)).class,
                    error.to_string(),
                ),
            };
            (address, Err(class))
        });
    }
    let mut failed: Option<Refusal> = None;
    while let Some(done) = asked.join_next().await {
        match done {
            Ok((address, Ok(()))) => {
                let millis = started.elapsed().as_millis() as u64;
                let family = Family::of(&address);
                if is_mixed(addresses) && !other_answers(&mut asked, family).await {
                    way.learn(Addresses {
                        family: Some(family),
                        count: addresses.iter().filter(|a| Family::of(a) == family).count() as u32,
                    });
                }
                return Ok(millis);
            }
            Ok((address, Err((class, text)))) => {
                let text = match addresses.len() {
                    1 => format!("port {}: {text}", address.port()),
                    _ => format!("{address}: {text}"),
                };
                if failed
                    .as_ref()
                    .is_none_or(|(known, _)| weight(class) > weight(*known))
                {
                    failed = Some((class, text));
                }
            }
            Err(_) => {}
        }
    }
    Err(failed.unwrap_or((ConnectClass::Timeout, "no answer".into())))
}

/// Why an address was not reached, and the words for it.
type Refusal = (ConnectClass, String);
/// Addresses that are being asked.
type Asked = JoinSet<(SocketAddr, Result<(), Refusal>)>;

/// How much a refusal says: a host that is there says most.
fn weight(class: ConnectClass) -> u8 {
    match class {
        ConnectClass::Refused => 2,
        ConnectClass::Timeout => 1,
        _ => 0,
    }
}

/// Whether an address of the other family answers a moment later, too.
async fn other_answers(asked: &mut Asked, family: Family) -> bool {
    let other = async {
        while let Some(done) = asked.join_next().await {
            if done.is_ok_and(|(address, answer)| answer.is_ok() && Family::of(&address) != family) {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(GRACE, other).await.unwrap_or(false)
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
        let (at, way) = (|port| [([127, 0, 0, 1], port).into()], Way::default());
        assert_eq!(probes(&at(port), &way).await.map(|(_, probes)| probes), Ok(1));
        // Bound and not listening: nobody else can take the port meanwhile.
        let closed = tokio::net::TcpSocket::new_v4().expect("a socket");
        closed.bind(([127, 0, 0, 1], 0).into()).expect("bound");
        let port = closed.local_addr().expect("address").port();
        assert_eq!(
            probes(&at(port), &way).await.map_err(|(class, _)| class),
            Err(ConnectClass::Refused)
        );
    }
}
