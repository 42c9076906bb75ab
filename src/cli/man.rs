//! The man pages, made from the command line's shape.

use super::Cli;

/// Every man page with its file's name, the program's own first.
///
/// # Errors
/// Only what writing into memory can say.
pub fn man_pages() -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut root = <Cli as clap::CommandFactory>::command().disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    pages_of(&root, "git-nixgate", "git nixgate", &mut pages)?;
    Ok(pages)
}

/// `name` is what `man` finds, `typed` what is typed: git-nixgate-release, git nixgate release.
fn pages_of(
    command: &clap::Command,
    name: &str,
    typed: &str,
    pages: &mut Vec<(String, Vec<u8>)>,
) -> std::io::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone().name(name.to_owned()).bin_name(typed.to_owned()))
        .title(name.to_uppercase())
        .manual("git-nixgate")
        .render(&mut page)?;
    pages.push((format!("{name}.1"), page));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let word = sub.get_name();
        pages_of(sub, &format!("{name}-{word}"), &format!("{typed} {word}"), pages)?;
    }
    Ok(())
}
