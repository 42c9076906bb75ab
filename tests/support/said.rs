//! What Nix printed once, for whoever wants to see what is made of it.
#![allow(dead_code)]

use std::sync::Mutex;
use std::time::Duration;

use git_nixgate::failure::Failure;
use git_nixgate::nix::*;

/// Answers with what was recorded; knows the command lines it was asked to run.
pub struct Recorded {
    answers: Mutex<Vec<(i32, String, String)>>,
    asked: Mutex<Vec<Vec<String>>>,
}

impl Recorded {
    /// Exit status, standard output, standard error: the first command's first.
    pub fn new(answers: &[(i32, &str, &str)]) -> Self {
        let answers = answers
            .iter()
            .rev()
            .map(|(s, o, e)| (*s, o.to_string(), e.to_string()))
            .collect();
        Recorded {
            answers: Mutex::new(answers),
            asked: Mutex::default(),
        }
    }

    /// The command lines so far.
    pub fn asked(&self) -> Vec<Vec<String>> {
        self.asked.lock().unwrap().clone()
    }
}

impl Exec for Recorded {
    async fn exec(
        &self,
        argv: &[String],
        _: &[(String, String)],
        _: Option<Vec<u8>>,
        _: Duration,
    ) -> Result<ExecOutput, Failure> {
        self.asked.lock().unwrap().push(argv.to_vec());
        let (status, stdout, stderr) = self.answers.lock().unwrap().pop().expect("an answer");
        Ok(ExecOutput {
            status,
            stdout: stdout.into_bytes(),
            stderr: stderr.into_bytes(),
        })
    }
}

/// Runs something asynchronous to its end.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A file of `tests/data/nix-said`.
pub fn said(name: &str) -> String {
    std::fs::read_to_string(format!(
        "{}/tests/data/nix-said/{name}.txt",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap()
}

/// Cortex's toplevel of a commit.
pub fn request() -> BuildRequest {
    BuildRequest {
        flake: Flakeref::verbatim("git+file:///srv/flake?rev=4585af09a829283522df053a0848054ca2c56ba6"),
        attribute: "nixosConfigurations.cortex.config.system.build.toplevel".into(),
        out_link: None,
        impure: false,
        jobs: 4,
        remote: None,
        overrides: Vec::new(),
        deadline: Duration::from_secs(5),
    }
}

/// How a build fails when Nix prints this.
pub fn failed(stderr: &str) -> BuildError {
    // Only a missing attribute makes it ask again.
    let exec = Recorded::new(&[(1, "", stderr), (0, r#"["cortex","orion"]"#, "")]);
    run(build(&exec, &request())).unwrap_err()
}

/// How a copy fails when Nix prints this.
pub fn copied(stderr: &str) -> CopyError {
    let path =
        StorePath::new("/nix/store/v4diabb157pvhid92hjcgxx70j15acp1-nixos-system-cortex-25.05").unwrap();
    let request = CopyRequest {
        from: None,
        to: Some("ssh-ng://jarvis@cortex".into()),
        paths: vec![path],
        ssh_options: String::new(),
        host_keys: Vec::new(),
        no_check_signatures: false,
        substitute_on_destination: false,
        deadline: Duration::from_secs(5),
    };
    run(copy(&Recorded::new(&[(1, "", stderr)]), &request)).unwrap_err()
}
