//! Would a copy get through to a host's store? Told beforehand, of the target and of the builder alike: once a copy runs,
//! Nix has one sentence for all of it ("Nix daemon disconnected unexpectedly").

use crate::failure::{Failure, Reason};
use crate::host::{Greeting, Login, NixDaemon};

/// Where `prelude.sh` looks for programs, for whoever has to put one there.
const LOOKED: &str = "looked for in the login's PATH, /run/current-system/sw/bin, /nix/var/nix/profiles/default/bin, \
                      ~/.nix-profile/bin, ~/.local/state/nix/profile/bin, /etc/profiles/per-user, /usr/local/bin and /usr/bin";

/// A login that prints before the program that was asked for: every protocol over ssh breaks on it.
pub fn noisy(host: &str, user: &str, greeting: &Greeting) -> Option<Failure> {
    if greeting.noise.is_empty() {
        return None;
    }
    let what = format!("{host}: {user}'s login prints on standard output, where a copy expects Nix");
    let mut failure = Failure::failed(Reason::Copy, what);
    let lines = greeting.noise.lines().take(3);
    failure.why = lines
        .map(|line| format!("it prints: {}", line.trim_end()))
        .collect();
    Some(failure.next(format!(
        "on {host}, in {user}'s shell start-up file (~/.bashrc): print only to a person, [ -t 1 ] && echo …"
    )))
}

/// No `nix-daemon` anywhere: a copy has nothing to talk to.
pub(super) fn missing(host: &str, user: &str, greeting: &Greeting) -> Option<Failure> {
    let missing = greeting.nix_daemon == NixDaemon::Missing;
    missing.then(|| {
        Failure::failed(
            Reason::Store,
            format!("{host}: nix-daemon is not found for {user}"),
        )
        .why(LOOKED)
        .next(format!(
            "install Nix on {host}, or set PATH in {user}'s ~/.bashrc"
        ))
    })
}

/// A program that a builder lacks.
pub fn lacks(host: &str, programs: &[&str]) -> Failure {
    let names = programs.join(" and ");
    Failure::failed(
        Reason::Build,
        format!("{host} cannot build: {names} not found there"),
    )
    .why(LOOKED)
    .next(format!(
        "install {names} on {host}, or set PATH in the ssh user's ~/.bashrc"
    ))
}

/// Nix is there, and its store does not answer the user.
pub fn unanswered(host: &str, login: &Login) -> Option<Failure> {
    if login.nix_error.is_empty() {
        return None;
    }
    let (user, said) = (&login.user, login.nix_error.join("\n"));
    let fail = |what: String| {
        let mut failure = Failure::failed(Reason::Store, what);
        failure.why.clone_from(&login.nix_error);
        failure.why.truncate(4);
        failure
    };
    let failure = if said.contains("cannot connect to socket") {
        fail(format!("{host}: the Nix daemon does not run")).next(format!(
            "on {host}: systemctl start nix-daemon.socket; systemctl status nix-daemon.socket says why it stopped"
        ))
    } else if !login.is_allowed() {
        let allowed = login.nix_allowed.join(" ");
        fail(format!("{host}: the Nix daemon does not let {user} in"))
            .why(format!("allowed-users = {allowed}"))
            .next(format!(
                "on {host}: nix.settings.allowed-users = [ … \"{user}\" ];"
            ))
    } else if said.contains("not found") {
        super::lacks(host, &["nix"])
    } else {
        fail(format!("{host}: its Nix does not answer {user}")).next(format!(
            "`nix store info` as {user} on {host} shows the same; systemctl status nix-daemon"
        ))
    };
    Some(failure)
}

/// Whether the store takes paths from a user that its daemon does not trust: signed ones, or any where no signature is
/// required. `signer`: the builder, and whether it signs; one that did not say is believed to.
pub(super) fn untrusted(target: &str, login: &Login, signer: Option<&(String, bool)>) -> Option<Failure> {
    let trusted = login.nix_trusted != Some(false) || login.nix_requires == Some(false);
    let (builder, signs) = signer?;
    if trusted || *signs {
        return None;
    }
    let user = &login.user;
    let what = format!("{target}: {user} may not copy unsigned paths into the store");
    let failure = Failure::failed(Reason::Auth, what)
        .why(format!(
            "the Nix daemon there does not trust this user, and {builder} signs nothing that it builds"
        ))
        .next(format!(
            "on {target}: nix.settings.trusted-users = [ \"root\" \"{user}\" ]; or user = \"root\""
        ))
        .next(format!(
            "or on {builder}: nix.settings.secret-key-files, and its public key in {target}'s \
             nix.settings.trusted-public-keys (nix-store --generate-binary-cache-key makes both)"
        ));
    Some(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(text: &str) -> Login {
        Login::parse(&format!("user=guest\n{text}"))
    }

    #[test]
    fn h6_each_reason_why_a_store_does_not_answer_has_its_sentence() {
        let stopped = login(
            "groups=guest nix-users\nnix_allowed-users = *\n\
             nix_error=error: cannot connect to socket at '/nix/var/nix/daemon-socket/socket': Connection refused\n",
        );
        let shut = login(
            "groups=guest nix-users\nnix_allowed-users = root @wheel\n\
             nix_error=error: cannot open connection to remote store 'daemon': error: reading from file: Connection reset by peer\n",
        );
        let other = login(
            "nix_allowed-users = @nix-users\ngroups=guest nix-users\nnix_error=error: what nobody knows\n",
        );
        let absent = login("nix_error=/bin/sh: 9: nix: not found\n");
        let what = |login: &Login| unanswered("cortex", login).map(|failure| failure.what);
        let expected = [
            (&stopped, "cortex: the Nix daemon does not run"),
            (&shut, "cortex: the Nix daemon does not let guest in"),
            (&other, "cortex: its Nix does not answer guest"),
            (&absent, "cortex cannot build: nix not found there"),
        ];
        for (login, text) in expected {
            assert_eq!(what(login).as_deref(), Some(text));
        }
        let shut = unanswered("cortex", &shut).map(|failure| failure.to_string());
        assert!(shut.is_some_and(|text| text.contains("allowed-users = root @wheel")));
        assert_eq!(what(&login("nix_store={\"trusted\":0}\n")), None);
    }

    #[test]
    fn h6_a_user_is_allowed_by_name_by_group_or_with_everybody() {
        for (text, allowed) in [
            ("nix_allowed-users = *\n", true),
            ("nix_allowed-users = root guest\n", true),
            ("nix_allowed-users = @nix-users\ngroups=guest nix-users\n", true),
            ("nix_allowed-users = @wheel guests\ngroups=guest\n", false),
            ("", true),
        ] {
            assert_eq!(login(text).is_allowed(), allowed, "{text}");
        }
    }

    #[test]
    fn h6_what_a_login_prints_is_shown() {
        let greeting = Greeting {
            noise: "welcome to cortex".into(),
            nix_daemon: NixDaemon::Missing,
        };
        let failure = noisy("cortex", "jarvis", &greeting).expect("a failure");
        assert_eq!(failure.why, ["it prints: welcome to cortex"]);
        assert!(missing("cortex", "jarvis", &greeting).is_some());
        assert!(noisy("cortex", "jarvis", &Greeting::default()).is_none());
    }

    #[test]
    fn h5_whoever_is_not_trusted_may_copy_what_is_signed() {
        let (yes, no) = (("forge".to_owned(), true), ("forge".to_owned(), false));
        let guest = login("nix_store={\"trusted\":0}\nnix_require-sigs = true\n");
        let refused = untrusted("cortex", &guest, Some(&no)).expect("a failure");
        let next = refused.next.join("\n");
        assert!(
            next.contains("trusted-users") && next.contains("secret-key-files"),
            "{next}"
        );
        assert!(untrusted("cortex", &guest, Some(&yes)).is_none());
        assert!(untrusted("cortex", &guest, None).is_none());
        let lax = login("nix_store={\"trusted\":0}\nnix_require-sigs = false\n");
        assert!(untrusted("cortex", &lax, Some(&no)).is_none());
        let trusted = login("nix_store={\"trusted\":1}\n");
        assert!(untrusted("cortex", &trusted, Some(&no)).is_none());
    }
}
