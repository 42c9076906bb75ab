//! The derivations of two systems, paired: what each became, which of them somebody changed, and which only follow.
//!
//! Only derivations that one side alone has are looked at. Pairs are visited from the two roots down; equal output paths
//! end a visit even where the derivations differ, for then nothing that runs differs. Inputs are paired by path, then by
//! name, then by the name without its version, then by likeness (a rename). Nothing here recurses: a graph may be as
//! deep as somebody made it.

use super::drv::Derivation;
use super::masked::{self, Token, Tokens};
use super::names::parse_drv_name;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// One of a graph's derivations.
#[derive(Debug)]
pub struct Node<'a> {
    /// Its own store path.
    pub path: &'a str,
    pub drv: Derivation<'a>,
    old: bool,
    new: bool,
}

impl Node<'_> {
    /// `nginx-1.26.2`
    pub fn name(&self) -> &str {
        let base = self.path.rsplit('/').next().unwrap_or(self.path);
        let name = base.split_at_checked(33).map_or(base, |(_, name)| name);
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
    by_path: HashMap<&'a str, usize>,
    pub pairs: Vec<Pair>,
    /// The pair of each new derivation.
    of_new: HashMap<usize, usize>,
    /// The first pair of each old one.
    of_old: HashMap<usize, usize>,
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

/// More leftovers than this on one side are not compared by likeness.
const MOST_ALIKE: usize = 24;

impl<'a> Walk<'a> {
    /// Pairs two systems' derivations; `texts` are store paths with their contents. Those that both sides have need not
    /// be among them.
    ///
    /// # Errors
    /// A text that is no derivation, or a root that is not there.
    pub fn new(texts: &[(&'a str, &'a [u8])], old: &str, new: &str) -> Result<Walk<'a>, BadGraph> {
        let mut walk = Walk {
            nodes: Vec::with_capacity(texts.len()),
            by_path: HashMap::with_capacity(texts.len()),
            pairs: Vec::new(),
            of_new: HashMap::new(),
            of_old: HashMap::new(),
            added: BTreeMap::new(),
            removed: BTreeMap::new(),
        };
        for (path, text) in texts {
            let drv = Derivation::parse(text).map_err(|bad| BadGraph::Derivation((*path).to_owned(), bad))?;
            walk.by_path.insert(path, walk.nodes.len());
            walk.nodes.push(Node {
                path,
                drv,
                old: false,
                new: false,
            });
        }
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
        walk.pair(old, new);
        walk.match_all();
        walk.sort_out();
        for pair in 0..walk.pairs.len() {
            walk.compare(pair);
        }
        Ok(walk)
    }

    fn reach(&mut self, root: usize, side: impl for<'n> Fn(&'n mut Node<'a>) -> &'n mut bool) {
        let mut open = vec![root];
        while let Some(node) = open.pop() {
            let seen = side(&mut self.nodes[node]);
            if !std::mem::replace(seen, true) {
                open.extend(self.inputs(node));
            }
        }
    }

    /// The inputs that are among the texts.
    fn inputs(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        let inputs = self.nodes[node].drv.inputs.iter();
        inputs.filter_map(|(path, _)| self.by_path.get(path).copied())
    }

    /// The inputs that only the new, or only the old side has.
    fn alone(&self, node: usize, new: bool) -> impl Iterator<Item = usize> + '_ {
        self.inputs(node).filter(move |&input| {
            let node = &self.nodes[input];
            node.new == new && node.old != new
        })
    }

    fn pair(&mut self, old: usize, new: usize) -> usize {
        if let Some(pair) = self.of_new.get(&new) {
            return *pair;
        }
        let (before, after) = (&self.nodes[old].drv, &self.nodes[new].drv);
        let paths = |drv: &Derivation<'a>| -> Vec<(&'a str, &'a str)> {
            drv.outputs.iter().map(|o| (o.name, o.path)).collect()
        };
        let known = after.outputs.iter().all(|output| !output.path.is_empty());
        let pair = self.pairs.len();
        self.pairs.push(Pair {
            old,
            new,
            same: known && paths(before) == paths(after),
            own: Vec::new(),
            kids: Vec::new(),
            matched: Vec::new(),
            gained: Vec::new(),
            lost: Vec::new(),
        });
        self.of_new.insert(new, pair);
        self.of_old.entry(old).or_insert(pair);
        pair
    }

    /// Visits all pairs, then looks once more among what was left over anywhere: something may have moved behind a
    /// wrapper. Until nothing new is found.
    fn match_all(&mut self) {
        let mut begun = 0;
        loop {
            let mut open: VecDeque<usize> = (begun..self.pairs.len()).collect();
            while let Some(pair) = open.pop_front() {
                let from = self.pairs.len();
                self.visit(pair);
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

    fn is_download(&self, old: usize, new: usize) -> bool {
        self.nodes[old].drv.is_fixed() && self.nodes[new].drv.is_fixed()
    }

    /// Pairs the inputs of a pair.
    fn visit(&mut self, pair: usize) {
        let Pair { old, new, same, .. } = self.pairs[pair];
        // What a download is, its hash says, whatever it was made with.
        if same || self.is_download(old, new) {
            return;
        }
        let mut olds: Vec<usize> = self.alone(old, false).collect();
        let mut news: Vec<usize> = self.alone(new, true).collect();
        let mut matched = Vec::new();
        // What was paired elsewhere is what it was there.
        news.retain(|new| {
            let known = self.of_new.get(new).map(|pair| self.pairs[*pair].old);
            match known.and_then(|old| olds.iter().position(|o| *o == old)) {
                Some(at) => {
                    matched.push((olds.remove(at), *new));
                    false
                }
                None => true,
            }
        });
        let more = self.match_up(&olds, &news, true);
        let (from, to): (HashSet<usize>, HashSet<usize>) = more.iter().copied().unzip();
        olds.retain(|old| !from.contains(old));
        news.retain(|new| !to.contains(new));
        matched.extend(more);
        for (old, new) in &matched {
            self.pair(*old, *new);
        }
        let pair = &mut self.pairs[pair];
        (pair.matched, pair.gained, pair.lost) = (matched, news, olds);
    }

    /// Derivations without a partner that can be reached from what pairs gained, or lost.
    fn leftover(&self, new: bool) -> Vec<usize> {
        let partners = if new { &self.of_new } else { &self.of_old };
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        let mut open: VecDeque<usize> = self
            .pairs
            .iter()
            .flat_map(|pair| if new { &pair.gained } else { &pair.lost })
            .copied()
            .collect();
        while let Some(node) = open.pop_front() {
            if partners.contains_key(&node) || !seen.insert(node) {
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
            let mut groups: HashMap<&str, (Vec<usize>, Vec<usize>)> = HashMap::new();
            for node in &olds {
                groups.entry(key(&self.nodes[*node])).or_default().0.push(*node);
            }
            for node in &news {
                groups.entry(key(&self.nodes[*node])).or_default().1.push(*node);
            }
            // Outputs whose paths come with the build are no sign.
            groups.remove("");
            for (old, new) in groups.into_values() {
                matched.extend(self.best(old, new, false));
            }
            let (from, to): (HashSet<usize>, HashSet<usize>) = matched.iter().copied().unzip();
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
        if old.len() == 1 && new.len() == 1 && !renamed {
            return vec![(old[0], new[0])];
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
        let (mut from, mut to) = (HashSet::new(), HashSet::new());
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
        if a.system != b.system || a.is_fixed() != b.is_fixed() || a.arguments.len() != b.arguments.len() {
            return (0, 0);
        }
        let own = |node: &Node<'_>| parse_drv_name(node.name()).0.to_owned();
        let (from, to) = (own(old), own(new));
        let counts = |key: &[u8]| {
            let is_output = |o: &super::drv::Output<'_>| o.name.as_bytes() == key;
            !matches!(key, b"name" | b"pname" | b"version") && !a.outputs.iter().any(is_output)
        };
        let same = |x: &[u8], y: &[u8]| {
            masked::same_but_for_hashes(x, y) || {
                let (x, y) = (String::from_utf8_lossy(x), String::from_utf8_lossy(y));
                let (x, y) = (x.replace(&from, "\0"), y.replace(&to, "\0"));
                masked::same_but_for_hashes(x.as_bytes(), y.as_bytes())
            }
        };
        let theirs: HashMap<&[u8], &[u8]> = b.environment.iter().copied().collect();
        let (mut all, mut equal) = (1, 1);
        for (key, value) in a.environment.iter().filter(|(key, _)| counts(key)) {
            let other = theirs.get(key).copied();
            all += key.len() + value.len().max(other.map_or(0, <[u8]>::len));
            if other.is_some_and(|other| same(value, other)) {
                equal += key.len() + value.len();
            }
        }
        for (x, y) in a
            .arguments
            .iter()
            .chain([&a.builder])
            .zip(b.arguments.iter().chain([&b.builder]))
        {
            all += x.len().max(y.len());
            equal += if same(x, y) { x.len() } else { 0 };
        }
        let names = |drv: &Derivation<'a>| -> HashSet<&'a str> {
            drv.inputs
                .iter()
                .map(|(path, _)| parse_drv_name(base_name(path)).0)
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
    fn sort_out(&mut self) {
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
                if partners.contains_key(&node) || brought.contains_key(&node) {
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
                .filter_map(|new| self.of_new.get(new).copied())
                .filter(|kid| !self.pairs[*kid].same)
                .collect();
            kids.sort_unstable();
            kids.dedup();
            self.pairs[at].kids = kids;
        }
    }

    /// The additions and removals that a pair names itself.
    pub fn came_and_went(&self, pair: &Pair) -> impl Iterator<Item = (bool, usize)> + use<'_, 'a> {
        let came = pair
            .gained
            .clone()
            .into_iter()
            .filter(|n| self.added.contains_key(n));
        let went = pair
            .lost
            .clone()
            .into_iter()
            .filter(|n| self.removed.contains_key(n));
        came.map(|n| (true, n)).chain(went.map(|n| (false, n)))
    }

    /// Finds the fields of a pair that differ beyond the paths of what it is made of.
    fn compare(&mut self, at: usize) {
        let pair = &self.pairs[at];
        if pair.same {
            return;
        }
        let own = match self.is_download(pair.old, pair.new) {
            true => self.name_and_hash(pair),
            false => self.differing(pair),
        };
        let covered = !pair.kids.is_empty() || self.came_and_went(pair).next().is_some();
        self.pairs[at].own = if own.is_empty() && !covered {
            vec![Field::Inputs]
        } else {
            own
        };
    }

    fn name_and_hash(&self, pair: &Pair) -> Vec<Field> {
        let (old, new) = (&self.nodes[pair.old], &self.nodes[pair.new]);
        let mut own = Vec::new();
        if old.name() != new.name() {
            own.push(Field::Name);
        }
        let fixed = |drv: &Derivation<'a>| -> Vec<(&'a str, &'a str)> {
            drv.outputs.iter().map(|o| (o.algorithm, o.hash)).collect()
        };
        if fixed(&old.drv) != fixed(&new.drv) {
            own.push(Field::Hash);
        }
        own
    }

    fn differing(&self, pair: &Pair) -> Vec<Field> {
        let (old, new) = (&self.nodes[pair.old], &self.nodes[pair.new]);
        let (a, b) = (&old.drv, &new.drv);
        let mut own = Vec::new();
        let mut tokens = None;
        let mut differ = |x: &[u8], y: &[u8]| {
            if x == y || masked::same_but_for_hashes(x, y) {
                return false;
            }
            let (before, after) =
                tokens.get_or_insert_with(|| (self.tokens(pair, false), self.tokens(pair, true)));
            masked::canonical(x, before) != masked::canonical(y, after)
        };
        own.extend(self.name_and_hash(pair));
        if !a
            .outputs
            .iter()
            .map(|o| o.name)
            .eq(b.outputs.iter().map(|o| o.name))
        {
            own.push(Field::Outputs);
        }
        if a.system != b.system {
            own.push(Field::System);
        }
        if differ(a.builder, b.builder) {
            own.push(Field::Builder);
        }
        if a.arguments.len() != b.arguments.len()
            || a.arguments.iter().zip(&b.arguments).any(|(x, y)| differ(x, y))
        {
            own.push(Field::Arguments);
        }
        let theirs: HashMap<&[u8], &[u8]> = b.environment.iter().copied().collect();
        let ours: HashSet<&[u8]> = a.environment.iter().map(|(key, _)| *key).collect();
        let variable = |key: &[u8]| Field::Variable(super::drv::plain(key).into_owned());
        for (key, value) in &a.environment {
            if theirs.get(key).is_none_or(|other| differ(value, other)) {
                own.push(variable(key));
            }
        }
        let more = b.environment.iter().filter(|(key, _)| !ours.contains(key));
        own.extend(more.map(|(key, _)| variable(key)));
        let (mine, others): (HashSet<&str>, HashSet<&str>) = (
            a.sources.iter().copied().collect(),
            b.sources.iter().copied().collect(),
        );
        let mut sources: Vec<Field> = mine
            .symmetric_difference(&others)
            .map(|path| Field::Source(base_name(path).to_owned()))
            .collect();
        sources.sort();
        sources.dedup();
        own.extend(sources);
        let wanted: HashMap<&str, &[u8]> = b.inputs.iter().copied().collect();
        let differs = |from: &str, to: &str| {
            let from = a
                .inputs
                .iter()
                .find(|(path, _)| *path == from)
                .map(|(_, wanted)| *wanted);
            from != wanted.get(to).copied()
        };
        let paired = pair
            .matched
            .iter()
            .map(|(x, y)| (self.nodes[*x].path, self.nodes[*y].path));
        let equal = a
            .inputs
            .iter()
            .filter(|(path, _)| wanted.contains_key(path))
            .map(|(path, _)| (*path, *path));
        if own.is_empty() && paired.chain(equal).any(|(from, to)| differs(from, to)) {
            own.push(Field::Inputs);
        }
        own
    }

    /// What the hashes in one side's text stand for.
    fn tokens(&self, pair: &Pair, new: bool) -> Tokens<'a> {
        let mut tokens = Tokens::new();
        let of = |(old, new_node): (usize, usize)| if new { new_node } else { old };
        let pairs = pair.matched.iter().copied().chain([(pair.old, pair.new)]);
        for (number, both) in pairs.enumerate() {
            for output in &self.nodes[of(both)].drv.outputs {
                if let Some(hash) = masked::hash_of(output.path) {
                    tokens.insert(hash, Token::Paired(number, output.name));
                }
            }
        }
        for node in if new { &pair.gained } else { &pair.lost } {
            for output in &self.nodes[*node].drv.outputs {
                if let Some(hash) = masked::hash_of(output.path) {
                    tokens.insert(hash, Token::Alone);
                }
            }
        }
        tokens
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
        self.of_new.get(&node).copied()
    }

    /// The pair that an old derivation is in; of several the first.
    pub fn pair_of_old(&self, node: usize) -> Option<usize> {
        self.of_old.get(&node).copied()
    }

    /// A derivation by its path.
    pub fn node(&self, path: &str) -> Option<usize> {
        self.by_path.get(path).copied()
    }

    /// Whether only the new (or only the old) side has it.
    pub fn is_alone(&self, node: usize, new: bool) -> bool {
        let node = &self.nodes[node];
        node.new == new && node.old != new
    }
}

/// A store path's name without its hash.
pub fn base_name(path: &str) -> &str {
    let base = path.rsplit('/').next().unwrap_or(path);
    match base.split_at_checked(33) {
        Some((hash, name)) if hash.ends_with('-') => name,
        _ => base,
    }
}
