//! Generated systems: graphs of derivations by index arithmetic, in the text that Nix writes, and the closures that they
//! make. Whoever generates them knows what was changed.

use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};

use git_nixgate::diff::RuntimePath;

/// What to change in a system of `size` packages. Packages from `size / 2` on are in nobody's inputs but the system's.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Their version goes up, and where they have one their download changes.
    pub bumped: BTreeSet<usize>,
    /// They are configured otherwise; no version moves.
    pub silent: BTreeSet<usize>,
    pub renamed: BTreeSet<usize>,
    pub added: BTreeSet<usize>,
    /// Only such from `size / 2` on.
    pub dropped: BTreeSet<usize>,
    /// What downloads do the work with is another one; what they download is the same.
    pub fetcher: bool,
}

impl Changes {
    fn names(&self, index: usize) -> bool {
        let all = [
            &self.bumped,
            &self.silent,
            &self.renamed,
            &self.added,
            &self.dropped,
        ];
        all.iter().any(|list| list.contains(&index))
    }
}

/// One derivation.
#[derive(Debug, Clone)]
struct Drv {
    path: String,
    outputs: Vec<(&'static str, String)>,
    fixed: bool,
}

/// A generated system.
#[derive(Debug, Default)]
pub struct System {
    /// The toplevel's derivation.
    pub root: String,
    pub texts: BTreeMap<String, String>,
    /// Each path that runs, with its deriver and its references.
    pub closure: BTreeMap<String, (String, Vec<String>)>,
    /// The changed packages that each path is made of, its own among them, by index.
    pub made_of: HashMap<String, BTreeSet<usize>>,
}

fn digits(text: &str) -> String {
    const NIX32: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
    let sum = Sha256::digest(text);
    sum.iter()
        .map(|byte| NIX32[usize::from(byte % 32)] as char)
        .collect()
}

/// A derivation as Nix writes it.
#[derive(Default)]
struct Recipe {
    name: String,
    outputs: Vec<&'static str>,
    inputs: Vec<Drv>,
    variables: BTreeMap<String, String>,
    hash: Option<String>,
}

impl Recipe {
    fn write(&self, system: &mut System) -> Drv {
        // An output's path follows from what it is made of; what fixes a download's path is its hash alone.
        let made_of: Vec<&str> = self
            .inputs
            .iter()
            .flat_map(|input| input.outputs.iter().map(|(_, path)| path.as_str()))
            .collect();
        let outputs: Vec<(&'static str, String)> = self
            .outputs
            .iter()
            .map(|output| {
                let name = match *output {
                    "out" => self.name.clone(),
                    other => format!("{}-{other}", self.name),
                };
                let sum = match &self.hash {
                    Some(hash) => digits(&format!("{name} {hash}")),
                    None => digits(&format!("{name} {:?} {made_of:?}", self.variables)),
                };
                (*output, format!("/nix/store/{sum}-{name}"))
            })
            .collect();
        let quoted = |text: &str| {
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            format!("\"{text}\"")
        };
        let listed = |all: Vec<String>| format!("[{}]", all.join(","));
        let written = outputs.iter().map(|(output, path)| {
            let (algorithm, hash) = match &self.hash {
                Some(hash) => ("r:sha256", hash.as_str()),
                None => ("", ""),
            };
            format!(
                "({},{},{},{})",
                quoted(output),
                quoted(path),
                quoted(algorithm),
                quoted(hash)
            )
        });
        let mut inputs: Vec<&Drv> = self.inputs.iter().collect();
        inputs.sort_by(|a, b| a.path.cmp(&b.path));
        inputs.dedup_by(|a, b| a.path == b.path);
        let inputs = inputs.iter().map(|input| {
            let wanted = input.outputs.iter().map(|(output, _)| quoted(output)).collect();
            format!("({},{})", quoted(&input.path), listed(wanted))
        });
        let mut variables = self.variables.clone();
        variables.insert("name".into(), self.name.clone());
        variables.extend(
            outputs
                .iter()
                .map(|(output, path)| ((*output).to_owned(), path.clone())),
        );
        let variables = variables
            .iter()
            .map(|(key, value)| format!("({},{})", quoted(key), quoted(value)));
        let text = format!(
            "Derive({},{},[],\"x86_64-linux\",\"/bin/sh\",[\"-c\",\"make\"],{})",
            listed(written.collect()),
            listed(inputs.collect()),
            listed(variables.collect())
        );
        let path = format!("/nix/store/{}-{}.drv", digits(&text), self.name);
        system.texts.insert(path.clone(), text);
        Drv {
            path,
            outputs,
            fixed: self.hash.is_some(),
        }
    }
}

/// The name of package `index`; every 40th has a twin of the same name and version, which is built otherwise.
pub fn name(index: usize, changes: &Changes) -> String {
    let base = if index % 40 == 39 { index - 1 } else { index };
    let renamed = if changes.renamed.contains(&index) {
        "-ng"
    } else {
        ""
    };
    let minor = 1 + usize::from(changes.bumped.contains(&index));
    format!("p{base}x{renamed}-{}.{minor}", 1 + base % 7)
}

/// Whether package `index` downloads its source.
pub fn downloads(index: usize) -> bool {
    index.is_multiple_of(3)
}

impl System {
    /// A system of `size` packages, with some changes. `chain`: each needs the one before, to the very first.
    pub fn new(size: usize, chain: bool, changes: &Changes) -> System {
        System::beside(size, chain, changes, changes)
    }

    /// The same, for comparison with a system that has the changes `other`.
    pub fn beside(size: usize, chain: bool, changes: &Changes, other: &Changes) -> System {
        let mut system = System::default();
        let tool = Recipe {
            name: "fetcher-1.0".into(),
            outputs: vec!["out"],
            variables: BTreeMap::from([("rev".into(), changes.fetcher.to_string())]),
            ..Recipe::default()
        }
        .write(&mut system);
        let mut all: Vec<Option<Drv>> = Vec::new();
        let indexes = (0..size).chain(changes.added.iter().copied().filter(|index| *index >= size));
        let mut by_index: HashMap<usize, usize> = HashMap::new();
        for index in indexes {
            by_index.insert(index, all.len());
            if changes.dropped.contains(&index) {
                all.push(None);
                continue;
            }
            let mut below: Vec<usize> = [2, 3, 5, 7, 11, 13, 17]
                .iter()
                .map(|n| index.min(size - 1) / n)
                .collect();
            if chain && index > 0 {
                below.push(index - 1);
            }
            below.retain(|other| *other < index);
            below.sort_unstable();
            below.dedup();
            let needs: Vec<Drv> = below
                .iter()
                .filter_map(|other| all[by_index[other]].clone())
                .collect();
            let mut recipe = Recipe {
                name: name(index, changes),
                outputs: if index.is_multiple_of(5) {
                    vec!["dev", "out"]
                } else {
                    vec!["out"]
                },
                inputs: needs,
                ..Recipe::default()
            };
            let paths: Vec<&str> = recipe
                .inputs
                .iter()
                .flat_map(|d| d.outputs.iter().map(|(_, p)| p.as_str()))
                .collect();
            let variables = [
                ("buildInputs", paths.join(" ")),
                (
                    "flags",
                    format!(
                        "--jobs {} --silent {}",
                        index % 4,
                        changes.silent.contains(&index)
                    ),
                ),
                ("script", format!("cd build{}\nmake \"all\"", index % 40 / 39)),
                (
                    "version",
                    recipe.name.rsplit('-').next().unwrap_or_default().to_owned(),
                ),
            ];
            recipe.variables = variables.map(|(key, value)| (key.to_owned(), value)).into();
            if downloads(index) {
                let hash = digits(&format!("{index} {}", changes.bumped.contains(&index)));
                let source = Recipe {
                    name: format!("{}.tar.gz", recipe.name),
                    outputs: vec!["out"],
                    inputs: vec![tool.clone()],
                    variables: BTreeMap::from([(
                        "url".into(),
                        format!("https://example.org/{}", recipe.name),
                    )]),
                    hash: Some(hash),
                }
                .write(&mut system);
                let path = source.outputs[0].1.clone();
                recipe.variables.insert("src".into(), path);
                recipe.inputs.push(source);
            }
            let drv = recipe.write(&mut system);
            system.run(
                &drv,
                &recipe.inputs,
                Some(index).filter(|index| other.names(*index)),
            );
            all.push(Some(drv));
        }
        let all: Vec<Drv> = all.into_iter().flatten().collect();
        let paths: Vec<&str> = all
            .iter()
            .flat_map(|d| d.outputs.iter().map(|(_, p)| p.as_str()))
            .collect();
        let top = Recipe {
            name: "nixos-system-generated-26.05".into(),
            outputs: vec!["out"],
            variables: BTreeMap::from([("paths".into(), paths.join(" "))]),
            inputs: all.clone(),
            hash: None,
        };
        let drv = top.write(&mut system);
        system.run(&drv, &all, None);
        system.root = drv.path;
        system
    }

    /// Everything but downloads is needed when it runs.
    fn run(&mut self, drv: &Drv, inputs: &[Drv], index: Option<usize>) {
        let references: Vec<String> = inputs
            .iter()
            .filter(|input| !input.fixed)
            .flat_map(|input| input.outputs.iter().map(|(_, path)| path.clone()))
            .collect();
        let mut made_of: BTreeSet<usize> = index.into_iter().collect();
        for reference in &references {
            made_of.extend(&self.made_of[reference]);
        }
        for (_, path) in &drv.outputs {
            self.closure
                .insert(path.clone(), (drv.path.clone(), references.clone()));
            self.made_of.insert(path.clone(), made_of.clone());
        }
    }

    pub fn runtime(&self) -> Vec<RuntimePath<'_>> {
        self.closure
            .iter()
            .map(|(path, (deriver, references))| RuntimePath {
                path,
                deriver: Some(deriver),
                references: references.iter().map(String::as_str).collect(),
            })
            .collect()
    }
}
