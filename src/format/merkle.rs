//! The arithmetic of the tree, after RFC 6962, section 2.1. No file, no clock, no text.
//!
//! A node is named by its height and its place among the nodes of that height, from the left:
//! node (h, i) covers the leaves from i * 2^h to (i + 1) * 2^h. Only complete nodes have a name
//! and are ever stored; they never change as the tree grows.

use sha2::{Digest as _, Sha256};

/// The SHA-256 of a leaf, a node or a line.
pub type Hash = [u8; 32];

/// Where the complete nodes of a tree are read from.
pub trait Nodes {
    /// Why one can't be read.
    type Error;

    /// The hash of node (`height`, `index`). Only nodes that the tree has are asked for.
    fn node(&self, height: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The root of the tree without leaves: `SHA-256("")`.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The hash of a leaf: `SHA-256(0x00 || entry)`.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut hasher = Sha256::new_with_prefix([0]);
    hasher.update(entry);
    hasher.finalize().into()
}

/// The hash of an inner node: `SHA-256(0x01 || left || right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(left);
    bytes[33..].copy_from_slice(right);
    Sha256::digest(bytes).into()
}

/// The right edge of a tree: the fewest complete nodes that cover it, the largest first. It is
/// all that appending needs; one node for each bit that is set in the size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    nodes: Vec<Hash>,
}

impl Edge {
    /// The edge of the first `size` leaves.
    pub fn read<N: Nodes>(size: u64, nodes: &N) -> Result<Edge, N::Error> {
        let mut edge = Edge {
            size,
            nodes: Vec::new(),
        };
        for height in (0..u64::BITS).rev() {
            if size >> height & 1 == 1 {
                // What is left of it is a whole number of nodes twice as high.
                edge.nodes.push(nodes.node(height, (size >> height) - 1)?);
            }
        }
        Ok(edge)
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf, and shows each node that is complete with it: (height, index, hash), the
    /// leaf first.
    pub fn append(&mut self, leaf: Hash, mut complete: impl FnMut(u32, u64, &Hash)) {
        complete(0, self.size, &leaf);
        let mut hash = leaf;
        // Like a carry in an addition: each one at the end of the size is a node of that height.
        for height in 0..self.size.trailing_ones() {
            if let Some(left) = self.nodes.pop() {
                hash = node_hash(&left, &hash);
            }
            complete(height + 1, self.size >> (height + 1), &hash);
        }
        self.nodes.push(hash);
        self.size += 1;
    }

    /// Adds a complete node of a height that divides the size.
    pub fn append_node(&mut self, height: u32, node: Hash) {
        let mut hash = node;
        for _ in 0..(self.size >> height).trailing_ones() {
            if let Some(left) = self.nodes.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.nodes.push(hash);
        self.size += 1 << height;
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        let mut nodes = self.nodes.iter().rev();
        match nodes.next() {
            None => empty_root(),
            Some(last) => nodes.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

/// Where a tree of `size` leaves, 2 or more, is split: the largest power of two below it.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// `MTH(D[start:end])`: the root over the leaves from `start`, a multiple of the power of two that
/// holds them all, to `end`.
fn subtree<N: Nodes>(start: u64, end: u64, nodes: &N) -> Result<Hash, N::Error> {
    let size = end - start;
    if size.is_power_of_two() {
        let height = size.trailing_zeros();
        return nodes.node(height, start >> height);
    }
    let middle = start + split(size);
    Ok(node_hash(
        &subtree(start, middle, nodes)?,
        &subtree(middle, end, nodes)?,
    ))
}

/// The proof that leaf `index` is in the tree of `size` leaves, its sibling first: PATH of
/// RFC 6962, section 2.1.1. At most 64 hashes. `None` if there is no such leaf.
pub fn prove_inclusion<N: Nodes>(
    index: u64,
    size: u64,
    nodes: &N,
) -> Result<Option<Vec<Hash>>, N::Error> {
    if index >= size {
        return Ok(None);
    }
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.push(subtree(middle, end, nodes)?);
            end = middle;
        } else {
            proof.push(subtree(start, middle, nodes)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Whether `proof` shows that the leaf of hash `leaf` is at `index` in the tree of `size` leaves
/// with this root.
pub fn check_inclusion(proof: &[Hash], index: u64, leaf: &Hash, size: u64, root: &Hash) -> bool {
    root_by_inclusion(proof, index, leaf, size) == Some(*root)
}

/// The root that `proof` leads to from the leaf of hash `leaf` at `index` in the tree of `size` leaves (RFC 9162,
/// section 2.1.3.2). `None` if it isn't as long as one of that place.
pub fn root_by_inclusion(proof: &[Hash], index: u64, leaf: &Hash, size: u64) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for other in proof {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(other, &hash);
            // At the right edge, levels where this node has no sibling are skipped.
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, other);
        }
        at >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

/// The proof that the tree of `size` leaves begins with the tree of `old` leaves: PROOF of
/// RFC 6962, section 2.1.2. Empty if they are one tree or the older is empty. `None` if the older
/// is the larger.
pub fn prove_consistency<N: Nodes>(
    old: u64,
    size: u64,
    nodes: &N,
) -> Result<Option<Vec<Hash>>, N::Error> {
    if old > size {
        return Ok(None);
    }
    let mut proof = Vec::new();
    if old == 0 || old == size {
        return Ok(Some(proof));
    }
    let (mut start, mut end) = (0, size);
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            proof.push(subtree(middle, end, nodes)?);
            end = middle;
        } else {
            proof.push(subtree(start, middle, nodes)?);
            start = middle;
        }
    }
    // The verifier knows the older root, and so this part of it if it is all of it.
    if start != 0 {
        proof.push(subtree(start, end, nodes)?);
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Whether `proof` shows that the tree of `size` leaves with root `root` begins with the tree of
/// `old` leaves with root `old_root` (RFC 9162, section 2.1.4.2).
#[cfg(test)]
pub fn check_consistency(
    proof: &[Hash],
    old: u64,
    old_root: &Hash,
    size: u64,
    root: &Hash,
) -> bool {
    if old > size {
        return false;
    }
    if old == size {
        return proof.is_empty() && old_root == root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    // The node that both trees share and that ends where the older one does.
    let height = old.trailing_zeros();
    let (mut at, mut last) = ((old - 1) >> height, (size - 1) >> height);
    let mut rest = proof.iter();
    let seed = if at == 0 { Some(old_root) } else { rest.next() };
    let Some(seed) = seed else {
        return false;
    };
    let (mut old_hash, mut hash) = (*seed, *seed);
    for other in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old_hash = node_hash(other, &old_hash);
            hash = node_hash(other, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, other);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == *old_root && hash == *root
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::convert::Infallible;

    /// Every complete node of a tree.
    #[derive(Default)]
    struct Stored(HashMap<(u32, u64), Hash>);

    impl Nodes for Stored {
        type Error = Infallible;

        fn node(&self, height: u32, index: u64) -> Result<Hash, Infallible> {
            Ok(self.0[&(height, index)])
        }
    }

    /// Trees of every size to `largest`: their nodes, leaves and roots.
    fn grown(largest: u64) -> (Stored, Vec<Hash>, Vec<Hash>) {
        let mut stored = Stored::default();
        let mut edge = Edge::default();
        let mut roots = vec![edge.root()];
        let mut leaves = Vec::new();
        for index in 0..largest {
            let leaf = leaf_hash(format!("leaf {index}").as_bytes());
            leaves.push(leaf);
            edge.append(leaf, |height, index, hash| {
                assert!(stored.0.insert((height, index), *hash).is_none());
            });
            roots.push(edge.root());
        }
        (stored, leaves, roots)
    }

    /// MTH as RFC 6962 writes it down.
    fn mth(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
                node_hash(&mth(left), &mth(right))
            }
        }
    }

    fn hex(hash: &Hash) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The eight leaves and the roots over the first one to eight of them that the Certificate
    /// Transparency project tests its own tree with.
    #[test]
    fn roots_are_those_of_certificate_transparency() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut edge = Edge::default();
        assert_eq!(
            hex(&edge.root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        for (leaf, root) in leaves.iter().zip(roots) {
            edge.append(leaf_hash(leaf), |_, _, _| {});
            assert_eq!(hex(&edge.root()), root);
        }
    }

    #[test]
    fn appending_and_reading_give_the_root_that_the_definition_gives() {
        let (stored, leaves, roots) = grown(300);
        for size in 0..=300 {
            assert_eq!(roots[size], mth(&leaves[..size]), "{size}");
            let Ok(edge) = Edge::read(size as u64, &stored);
            assert_eq!((edge.size(), edge.root()), (size as u64, roots[size]));
        }
    }

    /// Whether all bits of a proof are flipped, or one of each hash, another in every proof: of a few
    /// trees of each shape, or of all, which takes minutes.
    fn every_bit(size: u64, other: u64) -> bool {
        size <= 20
            || (127..=129).contains(&size) && other.is_multiple_of(32)
            || std::env::var_os("AUDIT_TEST_ALL_BITS").is_some()
    }

    /// Flips bits of a proof, and leaves its last hash away or adds one.
    #[track_caller]
    fn every_change_is_refused(
        proof: &[Hash],
        size: u64,
        other: u64,
        more: &Hash,
        check: impl Fn(&[Hash]) -> bool,
    ) {
        let mut proof = proof.to_vec();
        let every = every_bit(size, other);
        for at in 0..proof.len() {
            let one = (7 * size + other) as usize % 256;
            let bits = if every { 0..256 } else { one..one + 1 };
            for bit in bits {
                proof[at][bit / 8] ^= 1 << (bit % 8);
                assert!(!check(&proof));
                proof[at][bit / 8] ^= 1 << (bit % 8);
            }
        }
        if let Some(last) = proof.pop() {
            assert!(!check(&proof));
            proof.push(last);
        }
        proof.push(*more);
        assert!(!check(&proof));
    }

    #[test]
    fn every_leaf_of_every_tree_can_be_proved_and_every_flipped_bit_is_refused() {
        let (stored, leaves, roots) = grown(300);
        for size in 1..=300 {
            let root = &roots[size as usize];
            for index in 0..size {
                let leaf = &leaves[index as usize];
                let Ok(proof) = prove_inclusion(index, size, &stored);
                let proof = proof.unwrap();
                assert!(check_inclusion(&proof, index, leaf, size, root));
                let check = |proof: &[Hash]| check_inclusion(proof, index, leaf, size, root);
                every_change_is_refused(&proof, size, index, root, check);
                for other in [index.wrapping_sub(1), index + 1, size] {
                    assert!(!check_inclusion(&proof, other, leaf, size, root));
                }
            }
        }
        assert_eq!(prove_inclusion(300, 300, &stored), Ok(None));
    }

    #[test]
    fn every_older_tree_can_be_proved_and_every_flipped_bit_is_refused() {
        let (stored, _, roots) = grown(300);
        for size in 0..=300 {
            let root = &roots[size as usize];
            for old in 0..=size {
                let old_root = &roots[old as usize];
                let Ok(proof) = prove_consistency(old, size, &stored);
                let proof = proof.unwrap();
                assert!(
                    check_consistency(&proof, old, old_root, size, root),
                    "{old} {size}"
                );
                let check = |proof: &[Hash]| check_consistency(proof, old, old_root, size, root);
                every_change_is_refused(&proof, size, old, root, check);
                let mut wrong = *old_root;
                wrong[31] ^= 1;
                assert!(!check_consistency(&proof, old, &wrong, size, root));
                let mut wrong = *root;
                wrong[0] ^= 0x80;
                // With the empty tree every other is consistent.
                assert!(old == 0 || !check_consistency(&proof, old, old_root, size, &wrong));
                assert!(old == size || !check_consistency(&proof, size, root, old, old_root));
            }
        }
        assert_eq!(prove_consistency(301, 300, &stored), Ok(None));
    }
}
