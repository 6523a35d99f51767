//! Reading a file in the format of bbolt: see [`super::bolt`] for what it looks like. The file comes from outside, so
//! that every number in it is looked at before it is used.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::bolt::{BRANCH, ELEMENT, HEADER, IS_BUCKET, LEAF, MAGIC, VERSION, fnv1a};

/// Deeper than any tree that fits a disk.
const MAX_DEPTH: usize = 32;

/// The largest page, further pages included: far more than the largest record.
const MAX_PAGE: usize = 256 << 20;

/// A database.
pub(super) struct Reader {
    file: File,
    page_bytes: u64,
    pages: u64,
    root: u64,
}

/// A page's own idea of what is in it.
struct Page {
    kind: u16,
    count: usize,
    bytes: Vec<u8>,
}

fn damaged(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it is not a database of etcd, or damaged: {what}"))
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or_else(|| damaged("it ends early"))
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    number(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    number(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> io::Result<u64> {
    number(bytes, at).map(u64::from_le_bytes)
}

impl Reader {
    /// Opens the database in the first `len` bytes of `file`.
    pub(super) fn open(file: File, len: u64) -> io::Result<Reader> {
        let mut start = vec![0; usize::try_from(len.min(128 << 10)).unwrap_or_default()];
        file.read_exact_at(&mut start, 0)?;
        // The first meta page may be the damaged or the older one; the second begins one page later.
        let page_bytes = u32_at(&start, HEADER + 8)?;
        let first = meta(&start, 0);
        let second = meta(&start, page_bytes as usize);
        let newest = [first, second].into_iter().flatten().max_by_key(|meta| meta.transaction);
        let newest = newest.ok_or_else(|| damaged("no meta page is whole"))?;
        let page_bytes = u64::from(newest.page_bytes);
        if !(1 << 9..=1 << 16).contains(&page_bytes) {
            return Err(damaged(format_args!("pages of {page_bytes} bytes")));
        }
        Ok(Reader { file, page_bytes, pages: len / page_bytes, root: newest.root })
    }

    /// Gives each record of a bucket, in order, to `visit`. A bucket that is not there has none.
    pub(super) fn each<E: From<io::Error>>(
        &self,
        bucket: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut found: Option<Vec<u8>> = None;
        let root = self.page(self.root)?;
        self.walk(root, 0, &mut |flags, key, value| {
            if flags & IS_BUCKET != 0 && key == bucket {
                found = Some(value.to_vec());
            }
            Ok::<_, io::Error>(())
        })?;
        let Some(found) = found else { return Ok(()) };
        let page = match u64_at(&found, 0)? {
            // A small bucket's only page stands right there.
            0 => Page::parse(found.get(ELEMENT..).unwrap_or_default().to_vec())?,
            id => self.page(id)?,
        };
        self.walk(page, 0, &mut |_, key, value| visit(key, value))
    }

    fn page(&self, id: u64) -> io::Result<Page> {
        if id >= self.pages {
            return Err(damaged(format_args!("page {id} of {}", self.pages)));
        }
        let mut header = [0; HEADER];
        self.file.read_exact_at(&mut header, id * self.page_bytes)?;
        let pages = u64::from(u32_at(&header, 12)?) + 1;
        let bytes = usize::try_from(pages * self.page_bytes).unwrap_or(usize::MAX);
        if u64_at(&header, 0)? != id || id + pages > self.pages || bytes > MAX_PAGE {
            return Err(damaged(format_args!("page {id} is another one")));
        }
        let mut whole = vec![0; bytes];
        self.file.read_exact_at(&mut whole, id * self.page_bytes)?;
        Page::parse(whole)
    }

    fn walk<E: From<io::Error>>(
        &self,
        page: Page,
        depth: usize,
        visit: &mut impl FnMut(u32, &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if depth > MAX_DEPTH {
            return Err(damaged("its tree has no end").into());
        }
        for place in 0..page.count {
            let at = HEADER + place * ELEMENT;
            let numbers = |n: usize| u32_at(&page.bytes, at + 4 * n);
            if page.kind == BRANCH {
                let child = self.page(u64_at(&page.bytes, at + 8)?)?;
                self.walk(child, depth + 1, visit)?;
                continue;
            }
            let start = at + numbers(1)? as usize;
            let middle = start + numbers(2)? as usize;
            let end = middle + numbers(3)? as usize;
            let outside = || damaged("a record lies outside of its page");
            let key = page.bytes.get(start..middle).ok_or_else(outside)?;
            let value = page.bytes.get(middle..end).ok_or_else(outside)?;
            visit(numbers(0)?, key, value)?;
        }
        Ok(())
    }
}

impl Page {
    fn parse(bytes: Vec<u8>) -> io::Result<Page> {
        let (kind, count) = (u16_at(&bytes, 8)?, usize::from(u16_at(&bytes, 10)?));
        if kind != LEAF && kind != BRANCH {
            return Err(damaged(format_args!("a page of kind {kind} where records should be")));
        }
        Ok(Page { kind, count, bytes })
    }
}

struct Meta {
    page_bytes: u32,
    root: u64,
    transaction: u64,
}

/// The meta page at `at`, if it is whole.
fn meta(bytes: &[u8], at: usize) -> Option<Meta> {
    let meta = bytes.get(at + HEADER..at + HEADER + 64)?;
    let right = u32_at(meta, 0).ok()? == MAGIC
        && u32_at(meta, 4).ok()? == VERSION
        && u64_at(meta, 56).ok()? == fnv1a(&meta[..56]);
    let (page_bytes, root) = (u32_at(meta, 8).ok()?, u64_at(meta, 16).ok()?);
    right.then_some(Meta { page_bytes, root, transaction: u64_at(meta, 48).ok()? })
}
