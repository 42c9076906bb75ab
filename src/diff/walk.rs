//! The derivations of two systems, paired: what each became, which of them somebody changed, and which only follow.
//!
//! Only derivations that one side alone has are looked at. Pairs are visited from the two roots down; equal output paths
//! end a visit even where the derivations differ, for then nothing that runs differs. Inputs are paired by path, then by
//! name, then by the name without its version, then by likeness (a rename). Nothing here recurses: a graph may be as
//! deep as somebody made it.

mod compare;
mod matching;

use super::drv::Derivation;
use super::names::name_of;
use super::spread::spread;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// One of a graph's derivations.
#[derive(Debug)]
pub struct Node<'a> {
    /// Its own store path.
    pub path: &'a str,
    pub drv: Derivation<'a>,
    /// The nodes of its inputs, in their order; [`NONE`] for those that are not among the texts.
    links: Vec<u32>,
    old: bool,
    new: bool,
}

/// No node, or no pair.
const NONE: u32 = u32::MAX;

impl Node<'_> {
    /// `nginx-1.26.2`
    pub fn name(&self) -> &str {
        let name = name_of(self.path);
        name.strip_suffix(".drv").unwrap_or(name)
    }
}

/// What a field of a derivation is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// Its name, and with it mostly the version.
    Name,
    /// The names of its outputs.
    Outputs,
    /// The hash that a download has.
    Hash,
    System,
    Builder,
    Arguments,
    /// An environment variable, by its name as written.
    Variable(String),
    /// A file that no derivation made, by its name without the hash.
    Source(String),
    /// Which of its inputs' outputs it needs, or which of several inputs of one name.
    Inputs,
}

/// A derivation that became another one.
#[derive(Debug)]
pub struct Pair {
    pub old: usize,
    pub new: usize,
    /// Output paths are equal: nothing that runs differs.
    pub same: bool,
    /// What was changed here. Empty: only what it is made of was.
    pub own: Vec<Field>,
    /// The changed pairs among its inputs.
    pub kids: Vec<usize>,
    matched: Vec<(usize, usize)>,
    gained: Vec<usize>,
    lost: Vec<usize>,
}

/// What became of the derivations of two systems.
#[derive(Debug)]
pub struct Walk<'a> {
    pub nodes: Vec<Node<'a>>,
    by_path: FxHashMap<&'a str, u32>,
    pub pairs: Vec<Pair>,
    /// By node, the pair of each new derivation.
    of_new: Vec<u32>,
    /// By node, the first pair of each old one.
    of_old: Vec<u32>,
    /// New derivations that no old one became, each with the addition that brought it: itself, or another.
    pub added: BTreeMap<usize, usize>,
    /// The same for old ones that are no more.
    pub removed: BTreeMap<usize, usize>,
}

/// Derivations that cannot be compared, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadGraph {
    #[error("{0}: {1}")]
    Derivation(String, super::drv::BadDerivation),
    #[error("{0} is not among the derivations that were read")]
    Missing(String),
}

impl<'a> Walk<'a> {
    /// Pairs two systems' derivations; `texts` are store paths with their contents. Those that both sides have need not
    /// be among them.
    ///
    /// # Errors
    /// A text that is no derivation, or a root that is not there.
    pub fn new(texts: &[(&'a str, &'a [u8])], old: &str, new: &str) -> Result<Walk<'a>, BadGraph> {
        let mut walk = Walk::read(texts)?;
        let root = |path: &str| {
            let found = walk.by_path.get(path).copied();
            found.ok_or_else(|| BadGraph::Missing(path.to_owned()))
        };
        if old == new {
            return Ok(walk);
        }
        let (old, new) = (root(old)?, root(new)?);
        walk.reach(old, |node| &mut node.old);
        walk.reach(new, |node| &mut node.new);
        walk.match_all(old as usize, new as usize);
        walk.sort_out();
        walk.compare_all()?;
        Ok(walk)
    }

    fn read(texts: &[(&'a str, &'a [u8])]) -> Result<Walk<'a>, BadGraph> {
        let by_path: FxHashMap<&'a str, u32> = texts.iter().map(|(path, _)| *path).zip(0..).collect();
        let nodes = spread(texts, |(path, text)| {
            let drv = Derivation::parse(text).map_err(|bad| bad_derivation(path, bad))?;
            let link = |(path, _): &(&str, &[u8])| by_path.get(path).copied().unwrap_or(NONE);
            Ok(Node {
                path,
                links: drv.inputs.iter().map(link).collect(),
                drv,
                old: false,
                new: false,
            })
        });
        let nodes = nodes.into_iter().collect::<Result<Vec<Node<'a>>, BadGraph>>()?;
        Ok(Walk {
            of_new: vec![NONE; nodes.len()],
            of_old: vec![NONE; nodes.len()],
            nodes,
            by_path,
            pairs: Vec::new(),
            added: BTreeMap::new(),
            removed: BTreeMap::new(),
        })
    }

    fn reach(&mut self, root: u32, side: impl for<'n> Fn(&'n mut Node<'a>) -> &'n mut bool) {
        let mut open = vec![root];
        while let Some(at) = open.pop() {
            let node = &mut self.nodes[at as usize];
            if !std::mem::replace(side(node), true) {
                open.extend(node.links.iter().filter(|link| **link != NONE));
            }
        }
    }

    /// The additions and removals that a pair names itself.
    pub fn came_and_went<'w>(&'w self, pair: &'w Pair) -> impl Iterator<Item = (bool, usize)> + use<'w, 'a> {
        let came = pair.gained.iter().copied().filter(|n| self.added.contains_key(n));
        let went = pair.lost.iter().copied().filter(|n| self.removed.contains_key(n));
        came.map(|n| (true, n)).chain(went.map(|n| (false, n)))
    }

    /// The pairs with what they are made of before themselves.
    pub fn inputs_first(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.pairs.len());
        let mut begun = vec![false; self.pairs.len()];
        for start in 0..self.pairs.len() {
            let mut open = vec![(start, 0)];
            if std::mem::replace(&mut begun[start], true) {
                continue;
            }
            while let Some((pair, next)) = open.last_mut() {
                match self.pairs[*pair].kids.get(*next) {
                    Some(kid) => {
                        *next += 1;
                        let kid = *kid;
                        if !std::mem::replace(&mut begun[kid], true) {
                            open.push((kid, 0));
                        }
                    }
                    None => {
                        order.push(*pair);
                        open.pop();
                    }
                }
            }
        }
        order
    }

    /// The pair that a new derivation is in.
    pub fn pair_of_new(&self, node: usize) -> Option<usize> {
        known(self.of_new[node])
    }

    /// The pair that an old derivation is in; of several the first.
    pub fn pair_of_old(&self, node: usize) -> Option<usize> {
        known(self.of_old[node])
    }

    /// A derivation by its path.
    pub fn node(&self, path: &str) -> Option<usize> {
        self.by_path.get(path).map(|node| *node as usize)
    }

    /// Whether only the new (or only the old) side has it.
    pub fn is_alone(&self, node: usize, new: bool) -> bool {
        let node = &self.nodes[node];
        node.new == new && node.old != new
    }
}

fn known(number: u32) -> Option<usize> {
    (number != NONE).then_some(number as usize)
}

fn bad_derivation(path: &str, bad: super::drv::BadDerivation) -> BadGraph {
    BadGraph::Derivation(path.to_owned(), bad)
}
