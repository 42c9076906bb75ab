//! What no record may hold, gathered from where it is known: `.nixgate.toml`, git's configuration, Nix's, and the
//! environment.

use std::path::Path;

use crate::config::{self, Probe, Settings};
use crate::failure::Failure;
use crate::git::{Known, Repo};
use crate::record::{Oid, Secrets, Target, secrets::userinfo};

/// What is known in a clone, whatever the target, with HEAD's file: for journals, and a part of what no record holds.
pub fn secrets(repo: &Repo) -> Secrets {
    let mut all = everywhere(repo);
    if let Ok(head) = repo.resolve("HEAD") {
        all.extend(configured(repo, &head.id));
    }
    all
}

/// What the hooks judge records by. All of it is taken out of a record when it is written, see [`secrets_of`].
pub fn known_secrets(repo: &Repo) -> Known {
    Known {
        here: everywhere(repo),
        at: configured,
    }
}

/// What a record of this target's commit must not hold: what the hooks will look for, and how the run reached its hosts.
pub fn secrets_of(repo: &Repo, target: &Target, settings: &Settings, commit: &Oid) -> Secrets {
    let mut all = secrets(repo);
    all.extend(configured(repo, commit));
    reached(settings, &mut all);
    all.allow(|word| word == target.as_str());
    all
}

/// How a commit's file says that hosts are reached, every target's: a record may name another's. A file with faults is read
/// as far as it goes; one that is missing says nothing.
fn configured(repo: &Repo, commit: &Oid) -> Secrets {
    let file = repo.read_file(commit, Path::new(config::FILE));
    let text = file.ok().flatten().unwrap_or_default();
    let (config, _) = config::parse_leniently(&String::from_utf8_lossy(&text));
    let mut all = Secrets::default();
    for settings in config.targets.values() {
        reached(settings, &mut all);
    }
    // One target's host may be another's name, and a name stands in every record.
    all.allow(|word| config.targets.keys().any(|target| target.as_str() == word));
    all
}

fn everywhere(repo: &Repo) -> Secrets {
    let mut all = Secrets::default();
    home(&mut all);
    environment(&mut all);
    nix(&mut all);
    git(repo, &mut all);
    all
}

/// The operator's home, where it says who that is; also where a link leads.
fn home(all: &mut Secrets) {
    let Some(home) = std::env::var_os("HOME") else {
        return;
    };
    let home = Path::new(&home);
    let real = home.canonicalize().ok();
    for path in [Some(home), real.as_deref()].into_iter().flatten() {
        if path != Path::new("/root") {
            path.to_str().into_iter().for_each(|path| all.word(path));
        }
    }
}

/// Words of a variable's or a key's name that make its value a secret.
const NAMES: [&str; 14] = [
    "TOKEN",
    "TOKENS",
    "SECRET",
    "SECRETS",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "PASS",
    "PAT",
    "KEY",
    "APIKEY",
    "CREDENTIAL",
    "CREDENTIALS",
    "WEBHOOK",
];
/// Endings of names that are written as one word.
const ENDS: [&str; 5] = ["TOKEN", "SECRET", "PASSWORD", "PASSPHRASE", "PASSWD"];
/// Last words that make it a place where a secret is, and none.
const PLACES: [&str; 6] = ["FILE", "PATH", "DIR", "SOCK", "SOCKET", "HOST"];
/// Shorter values are switches and numbers.
const SHORTEST: usize = 8;

fn names_a_secret(name: &str) -> bool {
    let name = name.to_uppercase();
    let mut words = name.split(['_', '-', '.']);
    let place = name
        .rsplit(['_', '-', '.'])
        .next()
        .is_some_and(|last| PLACES.contains(&last));
    !place && (words.any(|word| NAMES.contains(&word)) || ENDS.iter().any(|end| name.ends_with(end)))
}

fn value(text: &str, all: &mut Secrets) {
    // A private key has many lines, and each of them is one; its head and its end are everybody's.
    for line in text.lines().map(str::trim) {
        if line.len() >= SHORTEST && !line.starts_with("-----") {
            all.key(line);
        }
    }
}

/// Users and passwords in URLs. Where there is a user alone, a long one is a token.
fn urls(text: &str, all: &mut Secrets) {
    for (user, password) in userinfo(text) {
        match password {
            Some(password) => all.key(&password),
            None if user.len() >= 16 => {
                all.key(&user);
                continue;
            }
            None => {}
        }
        user_named(&user, all);
    }
}

/// `root` and `git` are words of every second sentence and name nobody.
fn user_named(user: &str, all: &mut Secrets) {
    if !matches!(user, "root" | "git") {
        all.word(user);
    }
}

fn environment(all: &mut Secrets) {
    variables().for_each(|(name, content)| variable(&name, &content, all));
}

fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, content)| Some((name.into_string().ok()?, content.into_string().ok()?)))
}

fn variable(name: &str, content: &str, all: &mut Secrets) {
    if names_a_secret(name) {
        value(content, all);
    }
    urls(content, all);
}

/// `access-tokens` and the URLs of caches, in `NIX_CONFIG` and in the user's file (nix.conf(5)).
fn nix(all: &mut Secrets) {
    let folder = std::env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty());
    let folder = folder
        .map(std::path::PathBuf::from)
        .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".config")));
    let file = folder.and_then(|dir| std::fs::read_to_string(dir.join("nix/nix.conf")).ok());
    for text in [std::env::var("NIX_CONFIG").ok(), file].into_iter().flatten() {
        nix_settings(&text, all);
    }
}

fn nix_settings(text: &str, all: &mut Secrets) {
    urls(text, all);
    for line in text.lines() {
        let Some((name, tokens)) = line.split_once('=') else {
            continue;
        };
        if !name.trim().ends_with("access-tokens") {
            continue;
        }
        for pair in tokens.split_whitespace() {
            let token = pair.split_once('=').map_or(pair, |(_, token)| token);
            all.key(token);
            // `PAT:…` and `OAuth2:…` say what kind of token follows.
            if let Some((_, bare)) = token.split_once(':') {
                all.key(bare);
            }
        }
    }
}

/// URLs with a user or a password in them, headers that a server is to be sent, and what is named like a secret.
fn git(repo: &Repo, all: &mut Secrets) {
    let Ok(config) = repo.config() else { return };
    config.iter().for_each(|(key, content)| entry(key, content, all));
}

fn entry(key: &str, content: &str, all: &mut Secrets) {
    urls(key, all);
    urls(content, all);
    let last = key.rsplit('.').next().unwrap_or(key);
    if last == "extraheader" {
        content
            .split_whitespace()
            .next_back()
            .into_iter()
            .for_each(|word| value(word, all));
    } else if last == "smtppass" || (last != "signingkey" && names_a_secret(last)) {
        value(content, all);
    }
    if key.starts_with("remote.") && last.ends_with("url") {
        host(content, all, true);
    }
}

/// What a record says as it is (its closure, its system, who makes it) must be nobody's token or password: no hook would
/// let it pass, and by then the host is switched.
///
/// # Errors
/// Exit 2: what keeps it secret, by name and never by value.
pub fn refuse_unsayable(
    repo: &Repo,
    target: &Target,
    settings: &Settings,
    said: &[&str],
) -> Result<(), Failure> {
    let of = |gather: &dyn Fn(&mut Secrets)| {
        let mut one = Secrets::default();
        gather(&mut one);
        one
    };
    let mut sources: Vec<(String, Secrets)> = variables()
        .map(|(name, content)| (name.clone(), of(&|all| variable(&name, &content, all))))
        .collect();
    if let Ok(config) = repo.config() {
        sources.extend(
            config
                .iter()
                .map(|(key, content)| (key_named(key), of(&|all| entry(key, content, all)))),
        );
    }
    sources.push(("nix.conf or NIX_CONFIG".to_owned(), of(&nix)));
    sources.push((config::FILE.to_owned(), of(&|all| reached(settings, all))));
    unsayable(target, &said.join("\n"), &sources)
}

/// A key of git's configuration; a URL in its middle may hold a password.
fn key_named(key: &str) -> String {
    let named = match (key.contains("://"), key.split_once('.'), key.rsplit_once('.')) {
        (true, Some((first, _)), Some((_, last))) => format!("{first}.….{last}"),
        _ => key.to_owned(),
    };
    format!("git's {named}")
}

fn unsayable(target: &Target, said: &str, sources: &[(String, Secrets)]) -> Result<(), Failure> {
    let tells = |(_, secrets): &&(String, Secrets)| secrets.keys().count(said) > 0;
    let mut names: Vec<&str> = sources
        .iter()
        .filter(tells)
        .map(|(name, _)| name.as_str())
        .collect();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    let names = names.join(", ");
    Err(Failure::config(format!(
        "a record of {target} would say what {names} keeps secret"
    ))
    .why("a record names its closure, its system and who made it as they are: it could never be published")
    .next(format!(
        "unset it, or give it another name if it is no secret: {names}"
    )))
}

/// How a target and its builder are reached.
fn reached(settings: &Settings, all: &mut Secrets) {
    for user in [&settings.user, &settings.builder.user] {
        user_named(user, all);
    }
    if settings.host != "local" {
        host(settings.host.as_str(), all, false);
    }
    let builder = settings.builder.host.as_str();
    if builder.contains(['.', ':', '@']) {
        host(builder, all, false);
    }
    for option in &settings.ssh_options {
        let Some((name, content)) = option.split_once(['=', ' ', '\t']) else {
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "user" => user_named(content.trim(), all),
            "hostname" | "hostkeyalias" | "bindaddress" => all.word(content),
            "proxyjump" => content.split(',').for_each(|jump| host(jump, all, false)),
            _ => {}
        }
    }
    for check in &settings.checks {
        match &check.probe {
            Probe::Http(url) => urls(url, all),
            Probe::Run(argv) => argv.iter().for_each(|word| urls(word, all)),
            Probe::Unit(_) | Probe::Resolve(_) | Probe::Ping(_) | Probe::Secrets => {}
        }
    }
}

/// A host as ssh and git take it: `[ssh://][user@]name[:port]`, an address in brackets or without. `address`: a name is
/// none, a public server's stands in every flake.
fn host(text: &str, all: &mut Secrets, address: bool) {
    let text = text.trim();
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = bare.split('/').next().unwrap_or(bare);
    let (user, name) = match authority.rsplit_once('@') {
        Some((user, name)) => (user, name),
        None => ("", authority),
    };
    user_named(user.split(':').next().unwrap_or(user), all);
    let name = match (name.strip_prefix('['), name.matches(':').count()) {
        (Some(rest), _) => rest.split(']').next().unwrap_or(rest),
        (None, 1) => name.split(':').next().unwrap_or(name),
        // More colons than a port has: an address without brackets.
        (None, _) => name,
    };
    let is_address = name
        .split('%')
        .next()
        .unwrap_or(name)
        .parse::<std::net::IpAddr>()
        .is_ok();
    if is_address || !address {
        all.word(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whether_its_value_is_a_secret() {
        for name in [
            "GITHUB_TOKEN",
            "CACHIX_AUTH_TOKEN",
            "GITHUBTOKEN",
            "DB_PASSWORD",
            "PGPASSWORD",
            "AWS_SECRET_ACCESS_KEY",
            "SLACK_WEBHOOK",
            "SSH_PRIVATE_KEY",
            "MY_PAT",
            "SECRET_1",
            "registry_pass",
        ] {
            assert!(names_a_secret(name), "{name}");
        }
        for name in [
            "PATH",
            "SSH_AUTH_SOCK",
            "TOKEN_FILE",
            "KEYBOARD",
            "PASSWORD_STORE_DIR",
            "HOME",
            "SSH_ASKPASS",
        ] {
            assert!(!names_a_secret(name), "{name}");
        }
    }

    #[test]
    fn what_a_record_says_as_it_is_may_be_nobodys_secret() {
        let target: Target = "cortex".parse().expect("a target");
        let said = "/nix/store/j6xxiffrc2psfsp6rd8yvc3khz0qinwk-nixos-system-cortex\nx86_64-linux\nAda <ops@example.org>";
        let judged = |name: &str, content: &str| {
            let (mut first, mut second) = (Secrets::default(), Secrets::default());
            variable(name, content, &mut first);
            entry(name, content, &mut second);
            unsayable(
                &target,
                said,
                &[(name.to_owned(), first), (key_named(name), second)],
            )
        };
        for (name, content) in [
            ("CACHE_KEY", "x86_64-linux"),
            ("MAIL_TOKEN", "ops@example.org"),
            ("URL", "https://op:nixos-system@cache.example.org"),
        ] {
            let failure = judged(name, content).expect_err(name);
            assert_eq!(failure.exit, crate::failure::Exit::Usage);
            let text = format!("{failure:?}");
            assert!(text.contains(name) && !text.contains(content), "{text}");
        }
        for (name, content) in [
            ("SYSTEM", "x86_64-linux"),
            ("CACHE_KEY", "aarch64-linux"),
            // Users and hosts are looked for in what is free to be written.
            ("URL", "https://ops@example.org"),
        ] {
            judged(name, content).expect(name);
        }
        assert_eq!(
            key_named("url.https://op:pass@h/.insteadof"),
            "git's url.….insteadof"
        );
    }

    #[test]
    fn a_host_is_known_by_each_of_its_parts() {
        for text in [
            "192.0.2.7",
            "jarvis@192.0.2.7",
            "ssh://jarvis@192.0.2.7:2222",
            "ssh://jarvis@192.0.2.7/srv/git",
            "jarvis@192.0.2.7:infra.git",
        ] {
            let mut all = Secrets::default();
            host(text, &mut all, true);
            let users = usize::from(text.contains('@'));
            assert_eq!(all.count("jarvis, 192.0.2.7"), 1 + users, "{text}");
        }
        for text in ["fd00::7", "op@[fd00::7]:22", "op@fd00::7", "fd00:0::7%eth0"] {
            let mut all = Secrets::default();
            host(text, &mut all, true);
            assert_eq!(all.count("at fd00::7."), 1, "{text}");
        }
        let mut all = Secrets::default();
        host("https://op@git.example.org/x", &mut all, true);
        host("git@github.com:x/y", &mut all, true);
        assert_eq!(
            all.redact("git op git.example.org github.com"),
            "git [redacted] git.example.org github.com"
        );
        host("cortex.lan", &mut all, false);
        assert_eq!(all.count("cortex.lan"), 1);
    }

    #[test]
    fn what_reaches_a_host_is_known_from_its_settings() {
        let host = |text: &str| text.parse::<config::Login>().expect("a host").host;
        let settings = Settings {
            user: "jarvis".into(),
            host: host("192.0.2.7:22"),
            builder: crate::config::Builder {
                host: host("forge.lan:22"),
                user: "bob".into(),
                ..Default::default()
            },
            ssh_options: vec![
                "HostName=FD00::0:7".into(),
                "ProxyJump=eve@bastion.lan:22,ann@192.0.2.8".into(),
                "User=carol".into(),
                "Port=2222".into(),
            ],
            checks: vec![crate::config::Check {
                probe: Probe::Http("https://mon:pass-word-1@[::1]/x".into()),
                from: crate::config::From::Target,
                timeout: std::time::Duration::from_secs(1),
                before: 0,
            }],
            ..Settings::default()
        };
        let mut all = Secrets::default();
        reached(&settings, &mut all);
        for text in [
            "jarvis",
            "192.0.2.7",
            "bob",
            "forge.lan",
            "fd00::7",
            "eve",
            "bastion.lan",
            "ann",
            "192.0.2.8",
            "carol",
            "mon",
            "xpass-word-1",
        ] {
            assert_eq!(all.count(text), 1, "{text}");
        }
        assert_eq!(all.count("2222 root git"), 0);
    }

    #[test]
    fn nix_keeps_its_tokens_in_one_line() {
        let mut all = Secrets::default();
        nix_settings(
            "experimental-features = nix-command\nextra-access-tokens = github.com=ghp_0123456789 gitlab.com=PAT:glpat-0123\n\
             substituters = https://op:cache-pass@cache.example.org https://cache.nixos.org",
            &mut all,
        );
        for text in [
            "ghp_0123456789",
            "glpat-0123",
            "PAT:glpat-0123",
            "cache-pass",
            "op",
        ] {
            assert_eq!(all.count(text), 1, "{text}");
        }
        assert_eq!(all.count("nix-command github.com cache.nixos.org"), 0);
    }

    #[test]
    fn a_value_of_many_lines_is_many_values() {
        let mut all = Secrets::default();
        value(
            "-----BEGIN KEY-----\nAAAABBBBCCCC\nDDDDEEEE\n-----END KEY-----\n",
            &mut all,
        );
        assert_eq!(
            all.redact("x AAAABBBBCCCC DDDDEEEE -----BEGIN KEY-----"),
            "x [redacted] [redacted] -----BEGIN KEY-----"
        );
        value("true", &mut all);
        assert_eq!(all.count("true"), 0);
    }
}
