use super::*;

fn path(digit: char, name: &str) -> String {
    format!("/nix/store/{}-{name}", digit.to_string().repeat(32))
}

/// A system with one unit, whose program reads a file, and entries of `/etc`.
struct Made {
    top: String,
    files: Files,
}

fn made(digit: char, conf: &str, rules: &str) -> Made {
    let [top, etc, units, unit, wall] = [
        "nixos-system-x-26.05",
        "etc",
        "system-units",
        "unit-nginx.service",
        "unit-firewall.service",
    ]
    .map(|name| path(digit, name));
    let nginx = path(digit, "nginx.conf");
    let start = path(digit, "firewall-start");
    let shared = path('s', "etc-hosts");
    let link = |target: &str| Node::Link(target.to_owned());
    let text = |text: String| Node::File(text.into_bytes());
    let files = [
        (top.clone(), Node::Directory),
        (format!("{top}/etc"), link(&format!("{etc}/etc"))),
        (
            format!("{top}/kernel"),
            link(&format!("{}/bzImage", path(digit, "linux-6.18.1"))),
        ),
        (format!("{top}/activate"), text(format!("ln -s {etc}\n"))),
        (
            format!("{top}/boot.json"),
            text(format!("{{\"top\":\"{top}\",\"d\":\"{digit}\"}}")),
        ),
        (etc.clone(), Node::Directory),
        (format!("{etc}/etc"), Node::Directory),
        (format!("{etc}/etc/hosts"), link(&shared)),
        (format!("{etc}/etc/motd"), link(&path(digit, "etc-motd"))),
        (path(digit, "etc-motd"), text("hello\n".into())),
        (format!("{etc}/etc/systemd"), Node::Directory),
        (format!("{etc}/etc/systemd/system"), link(&units)),
        (units.clone(), Node::Directory),
        (
            format!("{units}/nginx.service"),
            link(&format!("{unit}/nginx.service")),
        ),
        (
            format!("{units}/firewall.service"),
            link(&format!("{wall}/firewall.service")),
        ),
        (format!("{units}/multi-user.target.wants"), Node::Directory),
        (
            format!("{units}/multi-user.target.wants/nginx.service"),
            link("../nginx.service"),
        ),
        (unit.clone(), Node::Directory),
        (
            format!("{unit}/nginx.service"),
            text(format!(
                "[Service]\nExecStart={}/bin/nginx -c {nginx}\n",
                path('n', "nginx-1.26")
            )),
        ),
        (nginx, text(conf.to_owned())),
        (wall.clone(), Node::Directory),
        (
            format!("{wall}/firewall.service"),
            text(format!("[Service]\nExecStart=@{start}/bin/firewall-start x\n")),
        ),
        (start.clone(), Node::Directory),
        (format!("{start}/bin"), Node::Directory),
        (format!("{start}/bin/firewall-start"), text(rules.to_owned())),
    ];
    Made {
        top,
        files: files.into_iter().collect(),
    }
}

fn held(old: &Made, new: &Made) -> Held {
    Held::new((&old.top, &old.files), (&new.top, &new.files)).expect("both toplevels")
}

#[test]
fn s1_8_a_line_of_a_file_that_a_unit_names_is_a_change_of_the_unit() {
    let old = made('a', "worker_processes 1;\n", "accept 22\n");
    let new = made('b', "worker_processes 4;\n", "accept 22\n");
    let found = held(&old, &new);
    let changed: Vec<(&str, bool)> = found
        .units
        .changed
        .iter()
        .map(|change| (change.name.as_str(), change.only_store_paths))
        .collect();
    assert_eq!(changed, [("firewall.service", true), ("nginx.service", false)]);
    let nginx = &found.units.changed[1];
    assert_eq!(nginx.lines, Vec::<String>::new());
    assert_eq!(nginx.files[0].name, "nginx.conf");
    assert_eq!(
        nginx.files[0].lines,
        ["- worker_processes 1;", "+ worker_processes 4;"]
    );
    assert_eq!(
        found.lines(8, &[]),
        [
            "kernel: linux-6.18.1 rebuilt",
            "units: ~ nginx.service (nginx.conf); 1 only rebuilt"
        ]
    );
    assert_eq!(found.lines(8, &[&Part::Kernel]), found.lines(8, &[])[1..]);
    assert_eq!(found.count(), 1);
    assert_eq!(
        found.texts()[0].1,
        [
            "nginx.conf:",
            "  - worker_processes 1;",
            "  + worker_processes 4;"
        ]
    );
    // The firewall is called by its name.
    let open = made('b', "worker_processes 1;\n", "accept 22\naccept 80\n");
    let found = held(&old, &open);
    assert!(
        found
            .lines(8, &[])
            .contains(&"firewall: ~ firewall.service (firewall-start)".to_owned()),
        "{:?}",
        found.lines(8, &[])
    );
    assert!(found.changed_parts().contains(&Part::Kernel));
    // Rebuilt, and nothing else.
    let found = held(&old, &made('b', "worker_processes 1;\n", "accept 22\n"));
    assert_eq!((found.count(), found.units.rebuilt()), (0, 2));
    assert_eq!(found.system, EntryDiff::default());
    assert!(held(&old, &old).is_empty());
}

#[test]
fn s4_4_units_entries_and_parts_come_go_and_change() {
    let old = made('a', "", "");
    let mut new = made('b', "", "");
    let (etc, units) = (path('b', "etc"), path('b', "system-units"));
    let mut put = |path: String, node: Node| new.files.insert(path, node);
    put(
        format!("{units}/web.service"),
        Node::Link(format!("{}/web.service", path('b', "unit-web.service"))),
    );
    put(
        format!("{}/web.service", path('b', "unit-web.service")),
        Node::File(b"[Service]\n".to_vec()),
    );
    put(
        format!("{units}/multi-user.target.wants/web.service"),
        Node::Link("../web.service".into()),
    );
    put(
        format!("{units}/nginx.service.d/limit.conf"),
        Node::File(b"[Service]\nMemoryMax=1G\n".to_vec()),
    );
    put(format!("{units}/nginx.service.d"), Node::Directory);
    put(format!("{etc}/etc/motd"), Node::File(b"bye\n".to_vec()));
    put(format!("{etc}/etc/blob"), Node::File(vec![0, 1, 2]));
    put(
        format!("{}/kernel", path('b', "nixos-system-x-26.05")),
        Node::Link(path('b', "linux-6.18.2")),
    );
    new.files.remove(&format!("{units}/firewall.service"));
    let found = held(&old, &new);
    assert_eq!(found.units.added, ["nginx.service.d/limit.conf", "web.service"]);
    assert_eq!(found.units.removed, ["firewall.service"]);
    assert_eq!(
        found.lines(8, &[]),
        [
            "kernel: linux-6.18.1 → linux-6.18.2",
            "firewall: - firewall.service",
            "units: + nginx.service.d/limit.conf, + web.service; 1 only rebuilt",
            "/etc: ~ motd, + blob",
        ]
    );
    assert_eq!(
        found.lines(1, &[])[2],
        "units: + nginx.service.d/limit.conf, … and 1 more; 1 only rebuilt"
    );
    let parts = found.changed_parts();
    assert!(parts.contains(&Part::Unit("nginx.service".into())), "{parts:?}");
    // A toplevel that was not read.
    assert_eq!(Held::new((&old.top, &old.files), (&new.top, &Files::new())), None);
}

#[test]
fn users_are_named_and_their_secrets_are_not() {
    let users = |digit: char, text: &str| {
        let mut made = made(digit, "", "");
        made.files.insert(
            path(digit, "users-groups.json"),
            Node::File(text.as_bytes().to_vec()),
        );
        made
    };
    let old = users(
        'a',
        r#"{"users":[{"name":"ann","shell":"/bin/sh","hashedPassword":"$6$old"},{"name":"bob"}],"groups":[{"name":"web"}]}"#,
    );
    let new = users(
        'b',
        r#"{"users":[{"name":"ann","shell":"/bin/zsh","hashedPassword":"$6$new"},{"name":"eve"}],"groups":[{"name":"web","gid":7}]}"#,
    );
    let found = held(&old, &new);
    assert_eq!(
        found.users,
        [
            "~ user ann: hashedPassword shell",
            "- user bob",
            "+ user eve",
            "~ group web: gid"
        ]
    );
    assert!(found.changed_parts().contains(&Part::Users));
    assert!(!serde_json::to_string(&found).unwrap().contains("$6$"));
}

#[test]
fn what_is_read_is_configuration_and_no_package() {
    let names = [
        "top",
        "etc",
        "system-units",
        "unit-web.service",
        "nginx.conf",
        "nginx-1.26",
        "sw",
    ];
    let [top, etc, units, unit, conf, nginx, sw] = names.map(|name| path('b', name));
    let shared = path('s', "etc-hosts");
    let entry = |path: &'static str, bytes, references: &[&'static String]| HeldPath {
        path,
        bytes,
        references: references.iter().map(|path| path.as_str()).collect(),
    };
    let leak = |text: String| -> &'static String { Box::leak(Box::new(text)) };
    let [top, etc, units, unit, conf, nginx, sw, shared] =
        [top, etc, units, unit, conf, nginx, sw, shared].map(leak);
    let side = [
        entry(top, 10, &[top, etc, sw]),
        entry(etc, 10, &[units, shared]),
        entry(units, 10, &[unit]),
        entry(unit, 10, &[conf, nginx]),
        entry(conf, 10, &[]),
        entry(nginx, 10, &[]),
        entry(sw, 10, &[]),
        entry(shared, 10, &[]),
    ];
    let other = HashSet::from([shared.as_str()]);
    assert_eq!(wanted(top, &side, &other), [top, etc, units, unit, conf]);
    // What is too big is left out.
    let mut side = side;
    side[3].bytes = BIG + 1;
    assert_eq!(wanted(top, &side, &other), [top, etc, units]);
}

#[test]
fn links_that_lead_in_circles_lead_nowhere() {
    let old = made('a', "", "");
    let mut new = made('b', "", "");
    let etc = path('b', "etc");
    let round = format!("{etc}/etc/round");
    new.files
        .insert(round.clone(), Node::Link(format!("{etc}/etc/trip")));
    new.files.insert(format!("{etc}/etc/trip"), Node::Link(round));
    new.files
        .insert(format!("{etc}/etc/self"), Node::Link(format!("{etc}/etc")));
    let found = held(&old, &new);
    assert!(
        found.etc.added.contains(&"round".to_owned()),
        "{:?}",
        found.etc.added
    );
}
