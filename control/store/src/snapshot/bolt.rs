//! Writing a file in the format of bbolt, etcd's database, front to back: the pages of each bucket's records, then the
//! pages that lead to them. Where each page goes is planned in a first pass over the records, so that nothing but the
//! plan (some ten bytes for each page) is in memory.
//!
//! The format: pages of 4 KiB, or several where one record needs it, each with a header (id, kind, number of elements,
//! further pages). Pages 0 and 1 say where everything begins, 2 lists free pages, of which there are none. Leaves hold
//! records, or names of buckets; branches hold the first key of each page below. All little-endian.

use std::io::{self, Write};

pub(super) const PAGE: usize = 4096;
pub(super) const HEADER: usize = 16;
pub(super) const ELEMENT: usize = 16;
pub(super) const MAGIC: u32 = 0xED0C_DAED;
pub(super) const VERSION: u32 = 2;
/// Pages before the first bucket's.
const FIRST_PAGE: u64 = 3;
pub(super) const BRANCH: u16 = 1;
pub(super) const LEAF: u16 = 2;
pub(super) const META: u16 = 4;
const FREE_LIST: u16 = 16;
/// Marks an element of a leaf that is a bucket.
pub(super) const IS_BUCKET: u32 = 1;

/// Where the records of a bucket come from: twice the same, in order.
pub(super) trait Source {
    type Error: From<io::Error>;
    fn each(&self, visit: &mut dyn FnMut(Vec<u8>, Vec<u8>) -> io::Result<()>) -> Result<(), Self::Error>;
}

/// A key and its value.
type Record = (Vec<u8>, Vec<u8>);

/// A page, or several in a row.
struct Node {
    first_key: Vec<u8>,
    id: u64,
    pages: u64,
}

/// Where the pages of a bucket go.
struct Plan {
    leaves: Vec<Node>,
    /// From those above the leaves up to the root; none if there is one leaf.
    branches: Vec<Vec<Node>>,
}

impl Plan {
    fn root(&self) -> u64 {
        self.branches.last().unwrap_or(&self.leaves).first().map_or(0, |node| node.id)
    }
}

/// A whole file, planned.
pub(super) struct File<'a, S: Source> {
    buckets: Vec<(&'a [u8], S, Plan)>,
    root: u64,
    pages: u64,
}

impl<'a, S: Source> File<'a, S> {
    /// Plans a file of these buckets, whose names are in order.
    pub(super) fn plan(sources: Vec<(&'a [u8], S)>) -> Result<File<'a, S>, S::Error> {
        let mut next = FIRST_PAGE;
        let mut take = |pages| {
            next += pages;
            next - pages
        };
        let mut buckets = Vec::new();
        for (name, source) in sources {
            let plan = plan(&source, &mut take)?;
            buckets.push((name, source, plan));
        }
        let root = take(1);
        Ok(File { buckets, root, pages: root + 1 })
    }

    /// Its length.
    pub(super) fn len(&self) -> u64 {
        self.pages * PAGE as u64
    }

    /// Writes it.
    pub(super) fn write(&self, out: &mut impl Write) -> Result<(), S::Error> {
        out.write_all(&self.meta(0))?;
        out.write_all(&self.meta(1))?;
        out.write_all(&page(2, FREE_LIST, 0, &[]))?;
        for (_, source, plan) in &self.buckets {
            write_bucket(source, plan, out)?;
        }
        let buckets = self.buckets.iter();
        let elements: Vec<_> = buckets
            .map(|(name, _, plan)| (name.to_vec(), [plan.root().to_le_bytes(), [0; 8]].concat()))
            .collect();
        out.write_all(&leaf(self.root, &elements, IS_BUCKET))?;
        Ok(())
    }

    fn meta(&self, id: u64) -> Vec<u8> {
        let mut meta = Vec::with_capacity(64);
        for number in [MAGIC, VERSION, PAGE as u32, 0] {
            meta.extend(number.to_le_bytes());
        }
        // The root and its sequence, the list of free pages, the end, the transaction.
        for number in [self.root, 0, 2, self.pages, id] {
            meta.extend(number.to_le_bytes());
        }
        meta.extend(fnv1a(&meta).to_le_bytes());
        page(id, META, 0, &meta)
    }
}

/// Cuts the records of a source into leaves: as many records in each as fit a page.
fn cut<S: Source>(source: &S, emit: &mut dyn FnMut(Vec<Record>) -> io::Result<()>) -> Result<(), S::Error> {
    let (mut elements, mut size) = (Vec::new(), HEADER);
    source.each(&mut |key, value| {
        let more = ELEMENT + key.len() + value.len();
        if size + more > PAGE && !elements.is_empty() {
            emit(std::mem::take(&mut elements))?;
            size = HEADER;
        }
        size += more;
        elements.push((key, value));
        Ok(())
    })?;
    // The last one; a bucket without records has one empty leaf.
    Ok(emit(elements)?)
}

fn pages_for(elements: &[Record]) -> u64 {
    let bytes: usize = elements.iter().map(|(key, value)| ELEMENT + key.len() + value.len()).sum();
    (HEADER + bytes).div_ceil(PAGE) as u64
}

fn plan<S: Source>(source: &S, take: &mut impl FnMut(u64) -> u64) -> Result<Plan, S::Error> {
    let mut leaves = Vec::new();
    cut(source, &mut |elements| {
        let pages = pages_for(&elements);
        let first_key = elements.into_iter().next().map(|(key, _)| key).unwrap_or_default();
        leaves.push(Node { first_key, id: take(pages), pages });
        Ok(())
    })?;
    let mut branches: Vec<Vec<Node>> = Vec::new();
    while branches.last().unwrap_or(&leaves).len() > 1 {
        let groups = group(branches.last().unwrap_or(&leaves));
        let level = groups.map(|nodes| {
            let first_key = nodes.first().map(|node| node.first_key.clone()).unwrap_or_default();
            Node { first_key, id: take(1), pages: 1 }
        });
        let level = level.collect();
        branches.push(level);
    }
    Ok(Plan { leaves, branches })
}

/// Cuts nodes into groups that fit a branch page each.
fn group(nodes: &[Node]) -> impl Iterator<Item = &[Node]> {
    let mut rest = nodes;
    std::iter::from_fn(move || {
        let mut size = HEADER;
        let fit = rest.iter().take_while(|node| {
            size += ELEMENT + node.first_key.len();
            size <= PAGE
        });
        let (group, others) = rest.split_at(fit.count());
        rest = others;
        (!group.is_empty()).then_some(group)
    })
}

fn write_bucket<S: Source>(source: &S, plan: &Plan, out: &mut impl Write) -> Result<(), S::Error> {
    let mut nodes = plan.leaves.iter();
    cut(source, &mut |elements| {
        // The source gives the same twice; a file that is not as planned would lead astray.
        let changed = || io::Error::other("the history changed while it was read");
        let node = nodes.next().filter(|node| node.pages == pages_for(&elements)).ok_or_else(changed)?;
        out.write_all(&leaf(node.id, &elements, 0))
    })?;
    let mut below = &plan.leaves;
    for level in &plan.branches {
        for (node, children) in level.iter().zip(group(below)) {
            out.write_all(&branch(node.id, children))?;
        }
        below = level;
    }
    Ok(())
}

/// A page, or as many as `body` needs.
fn page(id: u64, kind: u16, elements: usize, body: &[u8]) -> Vec<u8> {
    let pages = (HEADER + body.len()).div_ceil(PAGE);
    let mut page = Vec::with_capacity(pages * PAGE);
    page.extend(id.to_le_bytes());
    page.extend(kind.to_le_bytes());
    page.extend((elements as u16).to_le_bytes());
    page.extend((pages as u32 - 1).to_le_bytes());
    page.extend(body);
    page.resize(pages * PAGE, 0);
    page
}

fn leaf(id: u64, elements: &[Record], flags: u32) -> Vec<u8> {
    let mut body = Vec::new();
    let mut behind = elements.len() * ELEMENT;
    for (place, (key, value)) in elements.iter().enumerate() {
        // Counted from the element itself.
        let position = (behind - place * ELEMENT) as u32;
        for number in [flags, position, key.len() as u32, value.len() as u32] {
            body.extend(number.to_le_bytes());
        }
        behind += key.len() + value.len();
    }
    for (key, value) in elements {
        body.extend(key);
        body.extend(value);
    }
    page(id, LEAF, elements.len(), &body)
}

fn branch(id: u64, children: &[Node]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut behind = children.len() * ELEMENT;
    for (place, child) in children.iter().enumerate() {
        for number in [(behind - place * ELEMENT) as u32, child.first_key.len() as u32] {
            body.extend(number.to_le_bytes());
        }
        body.extend(child.id.to_le_bytes());
        behind += child.first_key.len();
    }
    children.iter().for_each(|child| body.extend(&child.first_key));
    page(id, BRANCH, children.len(), &body)
}

/// The checksum of a meta page: FNV-1a with 64 bits.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
