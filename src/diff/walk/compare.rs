//! What was changed in a derivation beyond what it is made of.

use super::super::drv;
use super::super::masked::{self, Token, Tokens};
use super::super::names::name_of;
use super::super::spread::spread;
use super::{BadGraph, Field, Pair, Walk, bad_derivation};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

impl<'a> Walk<'a> {
    /// Finds the fields of each pair that differ beyond the paths of what it is made of.
    ///
    /// # Errors
    /// A text that does not go on like a derivation.
    pub(super) fn compare_all(&mut self) -> Result<(), BadGraph> {
        let own = spread(&self.pairs, |pair| self.own(pair));
        for (pair, own) in self.pairs.iter_mut().zip(own) {
            pair.own = own?;
        }
        Ok(())
    }

    fn own(&self, pair: &Pair) -> Result<Vec<Field>, BadGraph> {
        if pair.same {
            return Ok(Vec::new());
        }
        let own = match self.is_download(pair.old, pair.new) {
            true => self.name_and_hash(pair),
            false => self.differing(pair)?,
        };
        let covered = !pair.kids.is_empty() || self.came_and_went(pair).next().is_some();
        Ok(match own.is_empty() && !covered {
            true => vec![Field::Inputs],
            false => own,
        })
    }

    fn name_and_hash(&self, pair: &Pair) -> Vec<Field> {
        let (old, new) = (&self.nodes[pair.old], &self.nodes[pair.new]);
        let mut own = Vec::new();
        if old.name() != new.name() {
            own.push(Field::Name);
        }
        let [fixed, other] = [old, new].map(|node| {
            node.drv
                .outputs
                .iter()
                .map(|output| (output.algorithm, output.hash))
        });
        if !fixed.eq(other) {
            own.push(Field::Hash);
        }
        own
    }

    fn differing(&self, pair: &Pair) -> Result<Vec<Field>, BadGraph> {
        let (old, new) = (&self.nodes[pair.old], &self.nodes[pair.new]);
        let (a, b) = (&old.drv, &new.drv);
        let mut own = self.name_and_hash(pair);
        let [names, others] = [a, b].map(|drv| drv.outputs.iter().map(|output| output.name));
        if !names.eq(others) {
            own.push(Field::Outputs);
        }
        // What holds for the whole text holds for each field of it.
        if !masked::same_but_for_hashes(a.rest(), b.rest()) {
            own.extend(self.differing_body(pair)?);
        }
        if a.sources != b.sources {
            let lacking = |these: &[&'a str], those: &[&'a str]| -> Vec<Field> {
                let those: FxHashSet<&str> = those.iter().copied().collect();
                let alone = these.iter().filter(|path| !those.contains(*path));
                alone
                    .map(|path| Field::Source(name_of(path).to_owned()))
                    .collect()
            };
            let mut sources = lacking(&a.sources, &b.sources);
            sources.extend(lacking(&b.sources, &a.sources));
            sources.sort();
            sources.dedup();
            own.extend(sources);
        }
        if own.is_empty() && self.wants_others(pair) {
            own.push(Field::Inputs);
        }
        Ok(own)
    }

    fn differing_body(&self, pair: &Pair) -> Result<Vec<Field>, BadGraph> {
        let [before, after] = [false, true].map(|new| self.tokens(pair, new));
        let rest = |node: usize| self.nodes[node].drv.rest();
        if masked::in_step((rest(pair.old), &before), (rest(pair.new), &after)) {
            return Ok(Vec::new());
        }
        let body = |node: usize| {
            let node = &self.nodes[node];
            node.drv.body().map_err(|bad| bad_derivation(node.path, bad))
        };
        let (a, b) = (body(pair.old)?, body(pair.new)?);
        let mut own = Vec::new();
        let differ = |x: &[u8], y: &[u8]| {
            !masked::same_but_for_hashes(x, y) && !masked::same_but_for_tokens((x, &before), (y, &after))
        };
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
        let theirs: FxHashMap<&[u8], &[u8]> = b.environment.iter().copied().collect();
        let ours: FxHashSet<&[u8]> = a.environment.iter().map(|(key, _)| *key).collect();
        let variable = |key: &[u8]| Field::Variable(drv::plain(key).into_owned());
        for (key, value) in &a.environment {
            if theirs.get(key).is_none_or(|other| differ(value, other)) {
                own.push(variable(key));
            }
        }
        let more = b.environment.iter().filter(|(key, _)| !ours.contains(key));
        own.extend(more.map(|(key, _)| variable(key)));
        Ok(own)
    }

    /// Whether other outputs are needed of an input that both sides have.
    fn wants_others(&self, pair: &Pair) -> bool {
        let [a, b] = [pair.old, pair.new].map(|node| &self.nodes[node].drv.inputs);
        let first = a.first().map(|(_, wanted)| *wanted);
        if a.iter().chain(b).all(|(_, wanted)| Some(*wanted) == first) {
            return false;
        }
        let [ours, theirs] = [a, b].map(|inputs| inputs.iter().copied().collect::<FxHashMap<&str, &[u8]>>());
        let path = |node: usize| self.nodes[node].path;
        let paired = pair.matched.iter().map(|(old, new)| (path(*old), path(*new)));
        let equal = a.iter().map(|(path, _)| (*path, *path));
        let equal = equal.filter(|(path, _)| theirs.contains_key(path));
        paired
            .chain(equal)
            .any(|(from, to)| ours.get(from) != theirs.get(to))
    }

    /// What the hashes in one side's text stand for.
    fn tokens(&self, pair: &Pair, new: bool) -> Tokens<'a> {
        let count = pair.matched.len() + pair.gained.len() + pair.lost.len() + 1;
        let mut tokens = Tokens::with_capacity_and_hasher(count, FxBuildHasher);
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
}
