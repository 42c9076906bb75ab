//! Which derivation became which.

use super::super::drv::{Body, Derivation, Output};
use super::super::masked;
use super::super::names::{name_of, parse_drv_name};
use super::{NONE, Node, Pair, Walk, known};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, VecDeque};

/// More leftovers than this on one side are not compared by likeness.
const MOST_ALIKE: usize = 24;

impl<'a> Walk<'a> {
    /// The inputs that only the new, or only the old side has.
    fn alone(&self, node: usize, new: bool) -> impl Iterator<Item = usize> + '_ {
        let links = self.nodes[node].links.iter().filter_map(|link| known(*link));
        links.filter(move |&input| self.is_alone(input, new))
    }

    fn pair(&mut self, old: usize, new: usize) -> usize {
        if let Some(pair) = known(self.of_new[new]) {
            return pair;
        }
        let (before, after) = (&self.nodes[old].drv.outputs, &self.nodes[new].drv.outputs);
        let made =
            |(a, b): (&Output<'a>, &Output<'a>)| !b.path.is_empty() && (a.name, a.path) == (b.name, b.path);
        let number = self.pairs.len();
        self.pairs.push(Pair {
            old,
            new,
            same: before.len() == after.len() && before.iter().zip(after).all(made),
            own: Vec::new(),
            kids: Vec::new(),
            matched: Vec::new(),
            gained: Vec::new(),
            lost: Vec::new(),
        });
        self.of_new[new] = number as u32;
        if self.of_old[old] == NONE {
            self.of_old[old] = number as u32;
        }
        number
    }

    /// Visits all pairs, then looks once more among what was left over anywhere: something may have moved behind a
    /// wrapper. Until nothing new is found.
    pub(super) fn match_all(&mut self, old: usize, new: usize) {
        self.pair(old, new);
        // By node, the pair among whose inputs it still has no partner.
        let mut waits = vec![NONE; self.nodes.len()];
        let mut begun = 0;
        loop {
            let mut open: VecDeque<usize> = (begun..self.pairs.len()).collect();
            while let Some(pair) = open.pop_front() {
                let from = self.pairs.len();
                self.visit(pair, &mut waits);
                open.extend(from..self.pairs.len());
            }
            begun = self.pairs.len();
            let (olds, news) = (self.leftover(false), self.leftover(true));
            for (old, new) in self.match_up(&olds, &news, false) {
                self.pair(old, new);
            }
            if self.pairs.len() == begun {
                return;
            }
        }
    }

    pub(super) fn is_download(&self, old: usize, new: usize) -> bool {
        self.nodes[old].drv.is_fixed() && self.nodes[new].drv.is_fixed()
    }

    /// Pairs the inputs of a pair.
    fn visit(&mut self, pair: usize, waits: &mut [u32]) {
        let Pair { old, new, same, .. } = self.pairs[pair];
        // What a download is, its hash says, whatever it was made with.
        if same || self.is_download(old, new) {
            return;
        }
        let mut olds: Vec<usize> = self.alone(old, false).collect();
        let mut news: Vec<usize> = self.alone(new, true).collect();
        let mut matched = Vec::new();
        let here = pair as u32;
        olds.iter().for_each(|old| waits[*old] = here);
        // What was paired elsewhere is what it was there.
        news.retain(|new| {
            let partner = known(self.of_new[*new]).map(|pair| self.pairs[pair].old);
            match partner.filter(|old| waits[*old] == here) {
                Some(old) => {
                    waits[old] = NONE;
                    matched.push((old, *new));
                    false
                }
                None => true,
            }
        });
        olds.retain(|old| waits[*old] == here);
        let more = self.match_up(&olds, &news, true);
        if !more.is_empty() {
            let (from, to) = sides(&more);
            olds.retain(|old| !from.contains(old));
            news.retain(|new| !to.contains(new));
            matched.extend(more);
        }
        for (old, new) in &matched {
            self.pair(*old, *new);
        }
        let pair = &mut self.pairs[pair];
        (pair.matched, pair.gained, pair.lost) = (matched, news, olds);
    }

    /// Derivations without a partner that can be reached from what pairs gained, or lost.
    fn leftover(&self, new: bool) -> Vec<usize> {
        let partners = if new { &self.of_new } else { &self.of_old };
        let mut seen = FxHashSet::default();
        let mut found = Vec::new();
        let mut open: VecDeque<usize> = self
            .pairs
            .iter()
            .flat_map(|pair| if new { &pair.gained } else { &pair.lost })
            .copied()
            .collect();
        while let Some(node) = open.pop_front() {
            if partners[node] != NONE || !seen.insert(node) {
                continue;
            }
            found.push(node);
            open.extend(self.alone(node, new));
        }
        found
    }

    /// Pairs by what they make, then by name, then by name without version, then, if asked, by likeness.
    fn match_up(&self, olds: &[usize], news: &[usize], likeness: bool) -> Vec<(usize, usize)> {
        let mut matched = Vec::new();
        let (mut olds, mut news) = (olds.to_vec(), news.to_vec());
        let keys: [for<'n> fn(&'n Node<'a>) -> &'n str; 3] = [
            |node| node.drv.outputs.first().map_or("", |output| output.path),
            |node| node.name(),
            |node| parse_drv_name(node.name()).0,
        ];
        for key in keys {
            if olds.is_empty() || news.is_empty() {
                return matched;
            }
            let mut groups: FxHashMap<&str, (Vec<usize>, Vec<usize>)> = FxHashMap::default();
            for node in &olds {
                groups.entry(key(&self.nodes[*node])).or_default().0.push(*node);
            }
            let mut found = false;
            for node in &news {
                if let Some(group) = groups.get_mut(key(&self.nodes[*node])) {
                    group.1.push(*node);
                    found = true;
                }
            }
            if !found {
                continue;
            }
            // Outputs whose paths come with the build are no sign.
            groups.remove("");
            for (old, new) in groups.into_values() {
                match (old.as_slice(), new.as_slice()) {
                    ([old], [new]) => matched.push((*old, *new)),
                    _ => matched.extend(self.best(old, new, false)),
                }
            }
            let (from, to) = sides(&matched);
            olds.retain(|old| !from.contains(old));
            news.retain(|new| !to.contains(new));
        }
        if likeness {
            matched.extend(self.best(olds, news, true));
        }
        matched.sort_unstable();
        matched
    }

    /// Pairs what is most alike first. `renamed`: only what says the same under another name.
    fn best(&self, mut old: Vec<usize>, mut new: Vec<usize>, renamed: bool) -> Vec<(usize, usize)> {
        if old.is_empty() || new.is_empty() {
            return Vec::new();
        }
        let by_name = |a: &usize, b: &usize| {
            let (a, b) = (&self.nodes[*a], &self.nodes[*b]);
            (a.name(), a.path).cmp(&(b.name(), b.path))
        };
        old.sort_unstable_by(by_name);
        new.sort_unstable_by(by_name);
        if old.len().max(new.len()) > MOST_ALIKE {
            return match renamed {
                false => old.into_iter().zip(new).collect(),
                true => Vec::new(),
            };
        }
        let mut all: Vec<(usize, usize, usize)> = Vec::new();
        for (i, a) in old.iter().enumerate() {
            for (j, b) in new.iter().enumerate() {
                let (says, inputs) = self.alike(*a, *b);
                let version = |node: usize| parse_drv_name(self.nodes[node].name()).1;
                if !renamed || (says >= 90 && inputs >= 60 && version(*a) == version(*b)) {
                    all.push((2 * says + inputs, i, j));
                }
            }
        }
        all.sort_by_key(|(alike, i, j)| (std::cmp::Reverse(*alike), i.abs_diff(*j), *i));
        let (mut from, mut to) = (FxHashSet::default(), FxHashSet::default());
        let mut pairs = Vec::new();
        for (_, i, j) in all {
            if !from.contains(&i) && !to.contains(&j) {
                from.insert(i);
                to.insert(j);
                pairs.push((old[i], new[j]));
            }
        }
        pairs
    }

    /// How much of two derivations is equal, in per cent: of the bytes of what they say, their own names apart, and of
    /// the names of their inputs.
    fn alike(&self, old: usize, new: usize) -> (usize, usize) {
        let (old, new) = (&self.nodes[old], &self.nodes[new]);
        let (a, b) = (&old.drv, &new.drv);
        let (Ok(mine), Ok(theirs)) = (a.body(), b.body()) else {
            return (0, 0);
        };
        if mine.system != theirs.system
            || a.is_fixed() != b.is_fixed()
            || mine.arguments.len() != theirs.arguments.len()
        {
            return (0, 0);
        }
        let own = |node: &Node<'_>| parse_drv_name(node.name()).0.to_owned();
        let (from, to) = (own(old), own(new));
        let counts = |key: &[u8]| {
            let is_output = |o: &Output<'_>| o.name.as_bytes() == key;
            !matches!(key, b"name" | b"pname" | b"version") && !a.outputs.iter().any(is_output)
        };
        let same = |x: &[u8], y: &[u8]| {
            masked::same_but_for_hashes(x, y) || {
                let (x, y) = (String::from_utf8_lossy(x), String::from_utf8_lossy(y));
                let (x, y) = (x.replace(&from, "\0"), y.replace(&to, "\0"));
                masked::same_but_for_hashes(x.as_bytes(), y.as_bytes())
            }
        };
        let others: FxHashMap<&[u8], &[u8]> = theirs.environment.iter().copied().collect();
        let (mut all, mut equal) = (1, 1);
        for (key, value) in mine.environment.iter().filter(|(key, _)| counts(key)) {
            let other = others.get(key).copied();
            all += key.len() + value.len().max(other.map_or(0, <[u8]>::len));
            if other.is_some_and(|other| same(value, other)) {
                equal += key.len() + value.len();
            }
        }
        let words = |body: &Body<'a>| -> Vec<&'a [u8]> {
            body.arguments.iter().copied().chain([body.builder]).collect()
        };
        for (x, y) in words(&mine).into_iter().zip(words(&theirs)) {
            all += x.len().max(y.len());
            equal += if same(x, y) { x.len() } else { 0 };
        }
        let names = |drv: &Derivation<'a>| -> FxHashSet<&'a str> {
            drv.inputs
                .iter()
                .map(|(path, _)| parse_drv_name(name_of(path)).0)
                .collect()
        };
        let (mine, others) = (names(a), names(b));
        let union = mine.union(&others).count();
        let inputs = match union {
            0 => 100,
            union => mine.intersection(&others).count() * 100 / union,
        };
        (equal * 100 / all, inputs)
    }

    /// What came, went, and follows which other changed pair.
    pub(super) fn sort_out(&mut self) {
        for new in [true, false] {
            let mut brought: BTreeMap<usize, usize> = BTreeMap::new();
            let partners = if new { &self.of_new } else { &self.of_old };
            let mut open: VecDeque<(usize, usize)> = self
                .pairs
                .iter()
                .flat_map(|pair| if new { &pair.gained } else { &pair.lost })
                .map(|node| (*node, *node))
                .collect();
            // What pairs refer to is an addition of its own, also where another addition needs it too.
            while let Some((node, by)) = open.pop_front() {
                if partners[node] != NONE || brought.contains_key(&node) {
                    continue;
                }
                brought.insert(node, by);
                open.extend(self.alone(node, new).map(|input| (input, by)));
            }
            if new {
                self.added = brought;
            } else {
                self.removed = brought;
            }
        }
        for at in 0..self.pairs.len() {
            let pair = &self.pairs[at];
            let news = pair.matched.iter().map(|(_, new)| new).chain(&pair.gained);
            let mut kids: Vec<usize> = news
                .filter_map(|new| known(self.of_new[*new]))
                .filter(|kid| !self.pairs[*kid].same)
                .collect();
            kids.sort_unstable();
            kids.dedup();
            self.pairs[at].kids = kids;
        }
    }
}

/// Both sides of pairs.
fn sides(pairs: &[(usize, usize)]) -> (FxHashSet<usize>, FxHashSet<usize>) {
    pairs.iter().copied().unzip()
}
