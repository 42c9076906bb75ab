use super::*;
use crate::config::to_toml;

fn problems(text: &str) -> Vec<String> {
    parse(text)
        .expect_err("has a problem")
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn only(text: &str) -> String {
    let mut all = problems(text);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn s2_26_a_target_without_keys_is_reached_by_its_name() {
    let config = parse("version = 1\n[target.cortex]\n").unwrap();
    let settings = &config.targets[&"cortex".parse().unwrap()];
    assert_eq!(settings.host, "cortex");
    assert_eq!(settings.attr, "cortex");
    assert_eq!(settings.preflight.services, ["sshd"]);
    assert_eq!(settings.timeouts.confirm, Duration::from_secs(30));
    assert!(settings.auto_rollback);
}

/// One that failed before a run is excused by its name.
#[test]
fn no_two_checks_of_a_target_are_called_the_same() {
    let text = r#"
        version = 1
        [[check]]
        run = ["curl", "http://localhost/a"]
        [[check]]
        run = ["ls"]
        [target.cortex]
        [[target.cortex.check]]
        run = ["curl", "http://localhost/b"]
        [target.orion]
    "#;
    let config = parse(text).unwrap();
    let names = |target: &str| -> Vec<String> {
        let settings = &config.targets[&target.parse().unwrap()];
        settings.checks.iter().map(Check::name).collect()
    };
    assert_eq!(names("cortex"), ["run curl", "run ls", "run curl (2)"]);
    assert_eq!(names("orion"), ["run curl", "run ls"]);
}

#[test]
fn a_target_overrides_the_defaults_and_adds_checks() {
    let text = r#"
        version = 1
        [defaults]
        user = "deploy"
        keep = 3
        [timeouts]
        soak = 7
        [[check]]
        unit = "sshd.service"
        [target.cortex]
        user = "jarvis"
        host = "192.168.1.7"
        [target.cortex.timeouts]
        settle = 0
        [[target.cortex.check]]
        http = "http://localhost:9090/-/healthy"
        [target.orion]
    "#;
    let config = parse(text).unwrap();
    let cortex = &config.targets[&"cortex".parse().unwrap()];
    let orion = &config.targets[&"orion".parse().unwrap()];
    assert_eq!((cortex.user.as_str(), orion.user.as_str()), ("jarvis", "deploy"));
    assert_eq!((cortex.keep, orion.keep), (3, 3));
    assert_eq!(cortex.timeouts.soak, Duration::from_secs(7));
    assert_eq!(cortex.timeouts.settle, Duration::ZERO);
    assert_eq!(orion.timeouts.settle, Duration::from_secs(5));
    assert_eq!((cortex.checks.len(), orion.checks.len()), (2, 1));
    assert_eq!(orion.host, "orion");
}

#[test]
fn an_unknown_key_names_the_nearest_one_and_its_line() {
    assert_eq!(
        only("version = 1\n[defaults]\nuser = \"a\"\nshh-options = []\n"),
        "line 4: `defaults.shh-options`: unknown key; did you mean `ssh-options`?"
    );
    assert_eq!(
        only("version = 1\n[timeout]\n"),
        "line 2: `timeout`: unknown key; did you mean `timeouts`?"
    );
}

#[test]
fn all_problems_are_reported_together() {
    let text = "version = 2\n[defaults]\nkeep = 0\nsudo = \"doas\"\n[timeouts]\nsoak = \"long\"\n";
    let found = problems(text);
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(
        found
            .iter()
            .any(|p| p.contains("one of auto, none, nopasswd, ask, not \"doas\"")),
        "{found:#?}"
    );
}

#[test]
fn what_this_version_does_not_do_is_refused_by_name() {
    let text = "version = 1\n[[cache]]\nname = \"main\"\nrequired = true\n";
    assert_eq!(
        only(text),
        "line 2: `cache`: caches are not part of this version; remove the key"
    );
}

#[test]
fn k5_options_of_ssh_that_are_not_on_the_list_are_refused_with_their_line() {
    let refused =
        only("version = 1\n[defaults]\nssh-options = [\"Port 2222\", \"SmartcardDevice=./evil.so\"]\n");
    assert!(
        refused
            .starts_with("line 3: `defaults.ssh-options`: SmartcardDevice belongs in your own ~/.ssh/config"),
        "{refused}"
    );
    let config = parse("version = 1\n[defaults]\nssh-options = [\"port 2222\"]\n[target.a]\n").unwrap();
    assert_eq!(config.targets[&"a".parse().unwrap()].ssh_options, ["Port=2222"]);
}

/// Everything that ends on a command line or in a URL.
const BAD: &[&str] = &[
    "$(id)",
    "a'b;c",
    "b?remote-program=x",
    "-oProxyCommand=x",
    "a b",
    "a|b",
    "`id`",
    "a\\\"b",
    "%h",
    "a/../b#c",
];

#[test]
fn k5_what_could_be_taken_for_more_than_a_name_is_refused() {
    for bad in BAD {
        for key in ["user", "remote", "specialisation"] {
            let refused = only(&format!("version = 1\n[defaults]\n{key} = \"{bad}\"\n"));
            assert!(refused.contains("is no "), "{refused}");
        }
        for key in ["host", "attr"] {
            let refused = only(&format!("version = 1\n[target.a]\n{key} = \"{bad}\"\n"));
            assert!(refused.contains("is no "), "{refused}");
        }
        for key in ["host", "user"] {
            let refused = only(&format!("version = 1\n[builder]\n{key} = \"{bad}\"\n"));
            assert!(
                refused.starts_with(&format!("line 3: `builder.{key}`")),
                "{refused}"
            );
        }
    }
    assert!(only("version = 1\n[target.-rf]\n").contains("is no target name"));
    for bad in [
        "https://eve.example.org/x.git",
        "../x",
        "ext::sh -c id",
        "./evil.git",
    ] {
        let refused = only(&format!("version = 1\n[defaults]\nremote = \"{bad}\"\n"));
        assert!(refused.contains("git remote add"), "{refused}");
    }
}

/// The file of a commit that is gone back to is read as far as it goes: by the same rules.
#[test]
fn k5_a_lenient_reader_skips_what_a_strict_one_refuses() {
    for bad in BAD {
        let text = format!(
            "version = 1\n[target.a]\nhost = \"{bad}\"\nuser = \"{bad}\"\nspecialisation = \"{bad}\"\nattr = \"{bad}\"\n\
             remote = \"{bad}\"\nssh-options = [\"Port=2\", \"PKCS11Provider=x\", \"ProxyJump={bad}\"]\n\
             [target.a.builder]\nhost = \"{bad}\"\nuser = \"{bad}\"\n"
        );
        let (config, problems) = parse_leniently(&text);
        assert_eq!(problems.len(), 9, "{problems:?}");
        let target = "a".parse().unwrap();
        let wanted = Settings {
            ssh_options: vec!["Port=2".to_owned()],
            ..Settings::default_for(&target)
        };
        assert_eq!(config.targets[&target], wanted);
    }
}

#[test]
fn h7_user_and_port_of_a_host_go_where_they_belong() {
    let text = |more: &str| format!("version = 1\n[defaults]\nuser = \"deploy\"\n[target.a]\n{more}\n");
    let of = |more: &str| {
        let config = parse(&text(more)).unwrap_or_else(|problems| panic!("{more}: {problems:?}"));
        let settings = config.targets[&"a".parse().unwrap()].clone();
        let again = parse(&to_toml(&config)).unwrap();
        assert_eq!(again, config, "{more}");
        settings
    };
    let a = of("host = \"root@cortex:2222\"");
    assert_eq!(
        (a.host.as_str(), a.host.port(), a.user.as_str()),
        ("cortex", Some(2222), "root")
    );
    let a = of("host = \"ssh-ng://[fd00::20]:2222\"");
    assert_eq!(
        (a.host.as_str(), a.host.port(), a.user.as_str()),
        ("fd00::20", Some(2222), "deploy")
    );
    // What is said twice alike is said once.
    let a = of("host = \"root@a:22\"\nuser = \"root\"\nssh-options = [\"Port=22\"]");
    assert_eq!((a.user.as_str(), a.ssh_options.len()), ("root", 0));
    let a = of("builder = { host = \"ssh://build@forge:2222\" }");
    assert_eq!(
        (a.builder.host.to_string().as_str(), a.builder.user.as_str()),
        ("forge:2222", "build")
    );
    assert_eq!(of("builder = { host = \"target\" }").builder.host, "target");
    assert!(of("builder = { host = \"\" }").builder.host.is_empty());
    for (more, wanted) in [
        (
            "host = \"root@a\"\nuser = \"deploy\"",
            "says \"root\", and `user` says \"deploy\"",
        ),
        (
            "host = \"a:22\"\nssh-options = [\"Port=23\"]",
            "says port 22, and `ssh-options` say 23",
        ),
        (
            "ssh-options = [\"User=root\"]",
            "say User=root, and the user is \"deploy\"",
        ),
        ("host = \"\"", "is no host; write \"cortex\""),
        ("builder = { host = \"root@target\" }", "write \"target\""),
        (
            "builder = { host = \"root@forge\", user = \"build\" }",
            "says \"root\", and `user` says \"build\"",
        ),
    ] {
        let refused = only(&text(more));
        assert!(refused.contains(wanted), "{more}: {refused}");
    }
}

#[test]
fn h7_another_way_for_this_once_counts_before_the_files() {
    let text = "version = 1\n[target.a]\nhost = \"eve@a:2222\"\nssh-options = [\"HostName=a.lan\", \"HostKeyAlias=a\"]\n";
    let config = parse(text).unwrap();
    let mut settings = config.targets[&"a".parse().unwrap()].clone();
    settings.reach_at("10.0.0.7").unwrap();
    assert_eq!(
        (settings.host.to_string().as_str(), settings.user.as_str()),
        ("10.0.0.7", "eve")
    );
    assert_eq!(settings.ssh_options, ["HostKeyAlias=a"]);
    settings.reach_at("root@10.0.0.8:22").unwrap();
    assert_eq!(
        (settings.host.to_string().as_str(), settings.user.as_str()),
        ("10.0.0.8:22", "root")
    );
    settings.reach_at("-oProxyCommand=x").expect_err("no host");
}

#[test]
fn a_check_has_exactly_one_probe() {
    assert!(only("version = 1\n[[check]]\n").contains("exactly one of"));
    assert!(only("version = 1\n[[check]]\nunit = \"a\"\nrun = [\"b\"]\n").contains("exactly one of"));
    assert!(only("version = 1\n[[check]]\nhttp = \"ftp://x\"\n").contains("must start with"));
    assert!(only("version = 1\n[[check]]\nrun = []\n").contains("must name a program"));
}

#[test]
fn lenient_reading_keeps_what_is_good() {
    let text = "version = 1\nfuture = 1\n[target.cortex]\nuser = 7\nhost = \"h\"\n[[target.cortex.check]]\nunit = \"a.service\"\nnew = 1\n";
    let (config, problems) = parse_leniently(text);
    assert_eq!(problems.len(), 3, "{problems:?}");
    let cortex = &config.targets[&"cortex".parse().unwrap()];
    assert_eq!((cortex.host.as_str(), cortex.user.as_str()), ("h", ""));
    assert_eq!(cortex.checks.len(), 1);
}

#[test]
fn settle_stays_below_validate() {
    assert!(only("version = 1\n[timeouts]\nsettle = 120\n").contains("below `validate`"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        let _ = parse(&text);
    }

    #[test]
    fn no_toml_like_text_makes_it_panic(text in "(version = 1\n|\\[[a-z.\\[\\]]{1,12}\\]\n|[a-z-]{1,10} = [\"'0-9a-z.\\[\\]{} =]{0,12}\n){0,8}") {
        let _ = parse(&text);
    }
}
