//! What `git nixgate diff` does, for tests/bench-diff, which runs it on lab hosts beside other tools: two toplevels of
//! this machine's store compared, a closure read from another host, and a link that is slow.

use git_nixgate::gate::diff::Difference;
use git_nixgate::gate::store_of;
use git_nixgate::host::{Endpoint, Privilege, RunDir, Script, Session};
use git_nixgate::nix::{Closure, LocalExec, StorePath, closure, closure_linked, unshared};
use git_nixgate::record::Target;
use git_nixgate::run::{Compared, Side};
use git_nixgate::ui::Style;
use git_nixgate::ui::diff::{Folds, text};
use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["compare", old, new] => compare(old, new),
        ["floor", old, new] => floor(old, new),
        ["remote", host, link] => remote(host, link),
        ["relay", milliseconds, address] => relay(milliseconds, address),
        // cargo runs it like that.
        [] | ["--bench"] => {
            println!("tests/bench-diff runs this on hosts of its own");
            Ok(())
        }
        _ => Err("compare OLD NEW | floor OLD NEW | remote HOST LINK | relay MILLISECONDS ADDRESS".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> std::io::Result<T> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    Ok(runtime.enable_all().build()?.block_on(future))
}

/// Times of one's own, on stderr.
struct Phases(Instant);

impl Phases {
    fn end(&mut self, name: &str) {
        let took = std::mem::replace(&mut self.0, Instant::now()).elapsed();
        eprintln!("{name}: {} µs", took.as_micros());
    }
}

/// Two toplevels whose derivations are known, as those of records are.
fn compare(old: &str, new: &str) -> Outcome {
    let (old, new) = (StorePath::new(old)?, StorePath::new(new)?);
    let mut phases = Phases(Instant::now());
    let (before, after) =
        block_on(async { tokio::join!(closure(&LocalExec, &old, LIMIT), closure(&LocalExec, &new, LIMIT)) })?;
    let (before, after) = (before.map_err(said)?, after.map_err(said)?);
    phases.end("closures");
    let derivation = |closure: &Closure| closure.deriver().cloned().ok_or("no derivation");
    let (olds, drv) = ([derivation(&before)?], derivation(&after)?);
    let derivations = block_on(unshared(&LocalExec, &drv, &olds, LIMIT))?.map_err(said)?;
    phases.end("derivations");
    let (difference, bad) = Difference::new((&before, &after), derivations.as_ref(), None);
    phases.end("difference");
    let explained = difference.explained.as_ref().filter(|_| bad.is_none());
    let lost = explained.ok_or("no causes")?.lost.len();
    if lost > 0 {
        return Err(format!("{lost} paths have no cause").into());
    }
    let side = |closure: &Closure| Side {
        name: closure.toplevel.name().to_owned(),
        toplevel: closure.toplevel.to_string(),
        drv: None,
        commit: None,
    };
    let compared = Compared {
        facts: None,
        from: side(&before),
        to: side(&after),
        difference,
    };
    let target: Target = "bench".parse()?;
    print!("{}", text(&target, &compared, Folds::default(), Style::Plain));
    phases.end("text");
    // The most memory that this process had (proc(5)).
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    println!("peak {}", peak.unwrap_or_default().trim());
    Ok(())
}

/// What nobody who reads the changed paths' derivations can do without: their files opened, read and closed on two threads,
/// and nothing made of them.
fn floor(old: &str, new: &str) -> Outcome {
    let sides = [StorePath::new(old)?, StorePath::new(new)?];
    let read = |top| block_on(closure(&LocalExec, top, LIMIT));
    let (before, after) = (read(&sides[0])?.map_err(said)?, read(&sides[1])?.map_err(said)?);
    let changed = |these: &Closure, those: &Closure| -> Vec<String> {
        let known: HashSet<&StorePath> = those.paths().collect();
        let gone = these.paths().filter(|path| !known.contains(path));
        let derivers = gone.filter_map(|path| these.get(path)?.deriver.clone());
        derivers.map(|deriver| deriver.to_string()).collect()
    };
    let files = [changed(&before, &after), changed(&after, &before)];
    let read = |files: &[String]| -> std::io::Result<usize> {
        let mut text = vec![0; 1 << 20];
        files
            .iter()
            .try_fold(0, |sum, file| Ok(sum + File::open(file)?.read(&mut text)?))
    };
    let begun = Instant::now();
    let bytes = std::thread::scope(|scope| {
        let other = scope.spawn(|| read(&files[1]));
        let one = read(&files[0]);
        let other = other.join().map_err(|_| "a thread failed")?;
        Ok::<usize, Box<dyn std::error::Error>>(one? + other?)
    })?;
    let count = files.iter().map(Vec::len).sum::<usize>();
    println!("{} {count} {bytes}", begun.elapsed().as_micros());
    Ok(())
}

/// The closure of what a link on a host leads to, over one connection.
fn remote(host: &str, link: &str) -> Outcome {
    block_on(async {
        let dir = RunDir::new()?;
        let begun = Instant::now();
        let opened = Session::open(&Endpoint::ssh(host, host), &dir).await;
        let session = opened.map_err(|error| said(error.failure(host)))?;
        println!("connecting {} ms", begun.elapsed().as_millis());
        for _ in 0..5 {
            let begun = Instant::now();
            let ran = session.run(&Script::new(":"), Privilege::User, LIMIT).await;
            ran.map_err(|error| said(error.failure(host)))?;
            println!("nothing {} ms", begun.elapsed().as_millis());
            let begun = Instant::now();
            let closure = closure_linked(&store_of(&session), link, LIMIT).await;
            let count = closure.map_err(said)?.count();
            println!("closure {} ms, {count} paths", begun.elapsed().as_millis());
        }
        session.close().await;
        Ok(())
    })?
}

fn said(failure: git_nixgate::failure::Failure) -> String {
    format!("{}: {}", failure.what, failure.why.join("; "))
}

/// A ProxyCommand for ssh: a link on which each byte is under way for so long.
fn relay(milliseconds: &str, address: &str) -> Outcome {
    let way = Duration::from_millis(milliseconds.parse()?);
    // The handshake of TCP is a round trip too.
    std::thread::sleep(2 * way);
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let there = stream.try_clone()?;
    let back = std::thread::spawn(move || later(&stream, std::io::stdout(), way));
    let out = later(std::io::stdin(), &there, way);
    // ssh closes its end when it is done, sshd when it has said all.
    there.shutdown(Shutdown::Write)?;
    let came = back.join().map_err(|_| "the way back failed")?;
    Ok(out.and(came)?)
}

/// Passes on what comes, each piece so much later.
fn later(mut from: impl Read + Send, mut to: impl Write, way: Duration) -> std::io::Result<()> {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut piece = vec![0; 64 << 10];
            while let Ok(count @ 1..) = from.read(&mut piece) {
                if sender.send((Instant::now(), piece[..count].to_vec())).is_err() {
                    return;
                }
            }
        });
        for (came, piece) in receiver {
            std::thread::sleep((came + way).saturating_duration_since(Instant::now()));
            to.write_all(&piece)?;
            to.flush()?;
        }
        Ok(())
    })
}
