//! Every path that differs between two closures, tied to what was changed: the derivations that somebody changed, added
//! or dropped are the roots, and each other path follows some of them.

use super::root::{Part, Root, alone, changed, part};
use super::walk::{BadGraph, Walk};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

/// One path of a running system's closure, or of a candidate's.
#[derive(Debug, Clone)]
pub struct RuntimePath<'a> {
    pub path: &'a str,
    pub deriver: Option<&'a str>,
    pub references: Vec<&'a str>,
}

/// How one changed path is explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Its derivation was changed.
    Own,
    /// It only follows what it is made of.
    Follows,
    Added,
    Removed,
    /// No derivation made it, or both sides know its derivation: it follows whoever refers to it.
    Referred,
}

#[derive(Debug, Clone, Copy)]
enum Because {
    Pair(usize),
    Root(usize),
}

/// The closures' differences and their roots.
#[derive(Debug, Default)]
pub struct Explained {
    pub roots: Vec<Root>,
    /// The changed paths in order.
    paths: Vec<(String, How, Option<Because>)>,
    /// The roots of each pair as bits, `words` of 64 for each.
    rows: Vec<u64>,
    words: usize,
    /// Changed paths that nothing explains.
    pub lost: Vec<String>,
    /// Parts of the system that only follow: they are rebuilt, and nothing in them was changed.
    pub following: Vec<Part>,
}

impl Explained {
    /// Explains how the closure `new` differs from `old`; `texts` are their derivations (those that both have may be
    /// missing), `roots` those of the two toplevels.
    ///
    /// # Errors
    /// See [`Walk::new`].
    pub fn new(
        texts: &[(&str, &[u8])],
        roots: (&str, &str),
        old: &[RuntimePath<'_>],
        new: &[RuntimePath<'_>],
    ) -> Result<Explained, BadGraph> {
        let walk = Walk::new(texts, roots.0, roots.1)?;
        let mut explained = Explained::default();
        let (before, after) = (known(old), known(new));
        let runs = |node: usize, is_new: bool| {
            let (ours, theirs) = if is_new {
                (&after, &before)
            } else {
                (&before, &after)
            };
            let outputs = &walk.nodes[node].drv.outputs;
            outputs
                .iter()
                .any(|output| ours.contains(output.path) && !theirs.contains(output.path))
        };
        let numbers = explained.find_roots(&walk, runs);
        explained.follow(&walk, &numbers);
        explained.attach(&walk, &numbers, new, &before, true);
        explained.attach(&walk, &numbers, old, &after, false);
        explained.count();
        Ok(explained)
    }

    /// Numbers what was changed, added and dropped. `runs` tells whether one of a derivation's outputs is a changed path.
    fn find_roots(&mut self, walk: &Walk<'_>, runs: impl Fn(usize, bool) -> bool) -> Numbers {
        let mut numbers = Numbers::default();
        let mut parents: Vec<Vec<usize>> = vec![Vec::new(); walk.pairs.len()];
        // What came or went for a build alone (a download, a tool) is part of the change of whoever it is for.
        let mut needs: Vec<Vec<String>> = vec![Vec::new(); walk.pairs.len()];
        for (at, pair) in walk.pairs.iter().enumerate() {
            pair.kids.iter().for_each(|kid| parents[*kid].push(at));
            for (new, node) in walk.came_and_went(pair).filter(|(new, node)| !runs(*node, *new)) {
                let mark = if new { '+' } else { '-' };
                needs[at].push(format!("{mark} {}", walk.nodes[node].name()));
                numbers.with_owner.entry(node).or_insert(at);
            }
        }
        let is_own = |pair: &usize| !walk.pairs[*pair].own.is_empty() || !needs[*pair].is_empty();
        for (at, pair) in walk.pairs.iter().enumerate() {
            if !is_own(&at) {
                continue;
            }
            // So is a download that changed for whoever was changed himself.
            let (fixed, above) = (walk.nodes[pair.new].drv.is_fixed(), &parents[at]);
            if fixed && !above.is_empty() && above.iter().all(is_own) {
                numbers.folded.insert(at, above[0]);
                continue;
            }
            numbers.own.insert(at, self.roots.len());
            self.roots.push(changed(walk, at, &needs[at]));
        }
        for (new, list) in [(true, &walk.added), (false, &walk.removed)] {
            for (node, top) in list {
                if node == top && !numbers.with_owner.contains_key(node) {
                    numbers.alone.insert(*node, self.roots.len());
                    self.roots.push(alone(walk, *node, new));
                }
            }
        }
        numbers
    }

    /// Hands the roots on from what things are made of to what is made of them.
    fn follow(&mut self, walk: &Walk<'_>, numbers: &Numbers) {
        self.words = self.roots.len().div_ceil(64);
        self.rows = vec![0; walk.pairs.len() * self.words];
        for at in walk.inputs_first() {
            let pair = &walk.pairs[at];
            if let Some(root) = numbers.own.get(&at) {
                self.set(at, *root);
            }
            for (_, node) in walk.came_and_went(pair) {
                if let Some(root) = numbers.alone.get(&node) {
                    self.set(at, *root);
                }
            }
            for kid in &pair.kids {
                for word in 0..self.words {
                    let bits = self.rows[kid * self.words + word];
                    self.rows[at * self.words + word] |= bits;
                }
            }
        }
        for (folded, owner) in &numbers.folded {
            if let Some(root) = numbers.own.get(owner) {
                self.set(*folded, *root);
            }
        }
    }

    fn set(&mut self, pair: usize, root: usize) {
        if let Some(word) = self.rows.get_mut(pair * self.words + root / 64) {
            *word |= 1 << (root % 64);
        }
    }

    /// Ties the paths of one closure that the other lacks to derivations, the rest to whoever refers to them.
    fn attach(
        &mut self,
        walk: &Walk<'_>,
        numbers: &Numbers,
        side: &[RuntimePath<'_>],
        other: &FxHashSet<&str>,
        new: bool,
    ) {
        let mut by_output: FxHashMap<&str, usize> = FxHashMap::default();
        let mut by_source: FxHashMap<&str, usize> = FxHashMap::default();
        for (at, node) in walk.nodes.iter().enumerate() {
            if !walk.is_alone(at, new) {
                continue;
            }
            for output in &node.drv.outputs {
                by_output.insert(output.path, at);
            }
            for source in &node.drv.sources {
                by_source.entry(source).or_insert(at);
            }
        }
        let mut found: Vec<(&RuntimePath<'_>, How, Option<Because>)> = Vec::new();
        let mut left: Vec<&RuntimePath<'_>> = Vec::new();
        for entry in side.iter().filter(|entry| !other.contains(entry.path)) {
            let deriver = || entry.deriver.and_then(|deriver| walk.node(deriver));
            let node = by_output
                .get(entry.path)
                .copied()
                .or_else(|| deriver().filter(|node| walk.is_alone(*node, new)));
            let why = match node {
                Some(node) => numbers.of(walk, node, new),
                None => {
                    let user = by_source.get(entry.path);
                    user.and_then(|node| numbers.of(walk, *node, new))
                        .map(|(_, because)| (How::Referred, because))
                }
            };
            if let (Some(node), Some((How::Follows, _)), true) = (node, why, new) {
                let node = &walk.nodes[node];
                let part = part(&node.drv, node.name());
                if !matches!(part, Part::Package | Part::Source | Part::System) {
                    self.following.push(part);
                }
            }
            match why {
                Some((how, because)) => found.push((entry, how, Some(because))),
                None => left.push(entry),
            }
        }
        if !left.is_empty() {
            refer(&mut found, left);
        }
        let told = found.into_iter();
        self.paths
            .extend(told.map(|(entry, how, because)| (entry.path.to_owned(), how, because)));
    }

    /// Counts for each root what it brings, and finds the paths that have none.
    fn count(&mut self) {
        self.paths.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut brings = vec![0; self.roots.len()];
        let mut of_pair = vec![0; self.rows.len().checked_div(self.words).unwrap_or(0)];
        let mut lost = Vec::new();
        for (path, _, because) in &self.paths {
            match because {
                Some(Because::Root(root)) => brings[*root] += 1,
                Some(Because::Pair(pair)) if self.bits(*because).next().is_some() => of_pair[*pair] += 1,
                _ => lost.push(path.clone()),
            }
        }
        self.lost = lost;
        for (pair, count) in of_pair.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            self.bits(Some(Because::Pair(pair)))
                .for_each(|root| brings[root] += count);
        }
        self.following.sort();
        self.following.dedup();
        for (root, count) in self.roots.iter_mut().zip(brings) {
            root.brings = count;
        }
    }

    /// How a changed path is explained; `None` if it did not change.
    pub fn how(&self, path: &str) -> Option<How> {
        self.find(path).map(|(_, how, _)| *how)
    }

    /// The numbers of the roots that a changed path follows from, in order.
    pub fn roots_of(&self, path: &str) -> impl Iterator<Item = usize> {
        self.bits(self.find(path).and_then(|(_, _, because)| *because))
    }

    fn find(&self, path: &str) -> Option<&(String, How, Option<Because>)> {
        let at = self
            .paths
            .binary_search_by(|(known, ..)| known.as_str().cmp(path));
        self.paths.get(at.ok()?)
    }

    fn bits(&self, because: Option<Because>) -> impl Iterator<Item = usize> {
        let (one, row) = match because {
            Some(Because::Root(root)) => (Some(root), &[][..]),
            Some(Because::Pair(pair)) => (None, &self.rows[pair * self.words..(pair + 1) * self.words]),
            None => (None, &[][..]),
        };
        let bits = row.iter().enumerate().flat_map(|(word, bits)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(word * 64 + bit)
            })
        });
        one.into_iter().chain(bits)
    }

    /// Every changed path with how it is explained, in order.
    pub fn changed(&self) -> impl Iterator<Item = (&str, How)> {
        self.paths.iter().map(|(path, how, _)| (path.as_str(), *how))
    }

    /// Every changed path with the numbers of the roots that it follows from, in order.
    pub fn each(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = usize>)> {
        self.paths
            .iter()
            .map(|(path, _, because)| (path.as_str(), self.bits(*because)))
    }

    /// How many changed paths have roots, all of which are among those that `known` names.
    pub fn count_with(&self, known: impl Fn(usize) -> bool) -> usize {
        let all_known = |because: &Option<Because>| {
            let mut roots = self.bits(*because).peekable();
            roots.peek().is_some() && roots.all(&known)
        };
        let paths = self.paths.iter();
        paths.filter(|(_, _, because)| all_known(because)).count()
    }

    /// How many paths differ: those that came and those that went.
    pub fn count_changed(&self) -> usize {
        self.paths.len()
    }
}

/// Which root is which pair, addition or removal.
#[derive(Default)]
struct Numbers {
    own: FxHashMap<usize, usize>,
    /// Pairs that are part of another pair's change.
    folded: FxHashMap<usize, usize>,
    alone: FxHashMap<usize, usize>,
    /// Additions and removals that are part of a pair's change.
    with_owner: FxHashMap<usize, usize>,
}

impl Numbers {
    /// Why a derivation's outputs differ.
    fn of(&self, walk: &Walk<'_>, node: usize, new: bool) -> Option<(How, Because)> {
        let (pair, list) = match new {
            true => (walk.pair_of_new(node), &walk.added),
            false => (walk.pair_of_old(node), &walk.removed),
        };
        if let Some(pair) = pair {
            let is_own = self.own.contains_key(&pair) || self.folded.contains_key(&pair);
            let how = if is_own { How::Own } else { How::Follows };
            return Some((how, Because::Pair(pair)));
        }
        let top = list.get(&node)?;
        let because = match (self.alone.get(top), self.with_owner.get(top)) {
            (Some(root), _) => Because::Root(*root),
            (None, Some(owner)) => Because::Root(*self.own.get(owner)?),
            (None, None) => return None,
        };
        Some((if new { How::Added } else { How::Removed }, because))
    }
}

/// Ties what is left to whoever refers to it, and so on.
fn refer<'s, 'a>(
    found: &mut Vec<(&'s RuntimePath<'a>, How, Option<Because>)>,
    left: Vec<&'s RuntimePath<'a>>,
) {
    let mut open: FxHashMap<&str, &RuntimePath<'a>> = left.iter().map(|entry| (entry.path, *entry)).collect();
    let mut at = 0;
    while let Some((entry, _, because)) = found.get(at).copied() {
        for reference in &entry.references {
            if let Some(referred) = open.remove(reference) {
                found.push((referred, How::Referred, because));
            }
        }
        at += 1;
    }
    let alone = left.into_iter().filter(|entry| open.contains_key(entry.path));
    found.extend(alone.map(|entry| (entry, How::Referred, None)));
}

fn known<'a>(side: &[RuntimePath<'a>]) -> FxHashSet<&'a str> {
    side.iter().map(|entry| entry.path).collect()
}
