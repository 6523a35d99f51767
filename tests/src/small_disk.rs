//! A small file system of its own, which can be filled.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A small file system, gone with this value.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one over `dir`, which has to exist.
    pub fn new(dir: &Path, megabytes: u32) -> Result<Self> {
        let options = format!("size={megabytes}m");
        mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))?;
        Ok(Self(dir.to_owned()))
    }

    /// Fills it to the last byte; answers the file that does.
    pub fn fill(&self) -> Result<PathBuf> {
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path)?;
        for size in [1 << 20, 1 << 12, 1] {
            let block = vec![1; size];
            while file.write_all(&block).is_ok() {}
        }
        Ok(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("{} is still mounted: {error}", self.0.display());
        }
    }
}
