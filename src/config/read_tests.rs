use super::*;

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
fn ssh_options_that_run_programs_are_refused() {
    for bad in [
        "ProxyCommand=nc %h %p",
        "proxycommand nc",
        "LocalCommand=x",
        "Include=/tmp/x",
    ] {
        let text = format!("version = 1\n[defaults]\nssh-options = [\"{bad}\"]\n");
        assert!(only(&text).contains("belongs in your own ssh_config"), "{bad}");
    }
    for bad in ["-oProxyCommand=x", "-F/tmp/x", "", "=", "Port"] {
        let text = format!("version = 1\n[defaults]\nssh-options = [\"{bad}\"]\n");
        assert!(only(&text).contains("must be written Key=Value"), "{bad}");
    }
    assert!(parse("version = 1\n[defaults]\nssh-options = [\"Port=2222\"]\n").is_ok());
}

#[test]
fn what_could_be_taken_for_an_option_is_refused() {
    for key in ["user", "remote"] {
        assert!(
            only(&format!("version = 1\n[defaults]\n{key} = \"-oX\"\n")).contains("must not start with '-'")
        );
    }
    assert!(only("version = 1\n[target.a]\nhost = \"-oProxyCommand=x\"\n").contains("'-'"));
    assert!(only("version = 1\n[target.a]\nhost = \"a b\"\n").contains("spaces"));
    assert!(only("version = 1\n[target.-rf]\n").contains("is no target name"));
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
