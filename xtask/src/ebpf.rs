//! `cargo xtask ebpf`: builds the kernel side to `target/ebpf/carrack.bpf.o`, and looks at what came out.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::toolchain;

const TARGET: &str = "bpfel-unknown-none";

/// Builds the object. Leaves the file alone if it would not change, so that nothing is compiled again for its sake.
pub(crate) fn run() -> Result<()> {
    let root = workspace_root()?;
    let toolchain = toolchain::find()?;
    eprintln!("eBPF: {}", toolchain.describe());
    let built = compile(&root, &toolchain)?;
    let object = fs::read(&built).with_context(|| format!("read {}", built.display()))?;
    check(&object)?;
    let path = root.join("target/ebpf/carrack.bpf.o");
    let changed = write_if_changed(&path, &object)?;
    let note = if changed { "written" } else { "unchanged" };
    eprintln!("eBPF: {} ({} KiB, {note})", path.display(), object.len() / 1024);
    Ok(())
}

fn workspace_root() -> Result<PathBuf> {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(xtask.parent().context("xtask is not in the workspace")?.to_owned())
}

fn compile(root: &Path, toolchain: &toolchain::BpfToolchain) -> Result<PathBuf> {
    let programs = root.join("ebpf/programs");
    let target_dir = root.join("target/ebpf/build");
    // `--btf` keeps what maps are described in. Where this clone and cargo's sources are is nobody's business.
    let flags = [
        "-Clink-arg=--btf".to_owned(),
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        format!("--remap-path-prefix={}=.", root.display()),
        format!("--remap-path-prefix={}=cargo", cargo_home()?.display()),
    ];
    let status = toolchain
        .cargo()
        .current_dir(&programs)
        .args(["build", "--quiet", "--release", "--locked", "-Z", "build-std=core", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env_remove("RUSTFLAGS")
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "the kernel side did not compile ({status})");
    Ok(target_dir.join(TARGET).join("release/carrack-ebpf"))
}

fn cargo_home() -> Result<PathBuf> {
    match env::var_os("CARGO_HOME") {
        Some(home) => Ok(home.into()),
        None => {
            Ok(PathBuf::from(env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?)
                .join(".cargo"))
        }
    }
}

/// A call to a panic function never gets past the verifier; say so here, where the source is at hand.
fn check(object: &[u8]) -> Result<()> {
    let symbols = symbols(object).context("the linker's output is not an ELF object")?;
    let panics: Vec<_> = symbols.iter().filter(|name| name.contains("panicking")).collect();
    if !panics.is_empty() {
        bail!("the kernel side can panic, which the verifier refuses: {panics:?}");
    }
    ensure!(symbols.iter().any(|name| name == "connect4"), "the object has no programs: {symbols:?}");
    Ok(())
}

/// The names in the symbol table of a 64-bit little-endian ELF object; `None` if it is not one.
fn symbols(elf: &[u8]) -> Option<Vec<String>> {
    const SHT_SYMTAB: u64 = 2;
    const SYMBOL_SIZE: usize = 24;
    let number = |at: usize, size: usize| {
        let bytes = elf.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0_u64, |n, byte| n << 8 | u64::from(*byte)))
    };
    let index = |at: usize, size: usize| usize::try_from(number(at, size)?).ok();
    if elf.get(..6)? != [0x7f, b'E', b'L', b'F', 2, 1] {
        return None;
    }
    let (table, entry, count) = (index(0x28, 8)?, index(0x3a, 2)?, index(0x3c, 2)?);
    let section = |i: usize| table.checked_add(i.checked_mul(entry)?);
    let contents = |at: usize| {
        let (offset, size) = (index(at + 0x18, 8)?, index(at + 0x20, 8)?);
        elf.get(offset..offset.checked_add(size)?)
    };
    let symtab = (0..count).filter_map(section).find(|at| number(at + 4, 4) == Some(SHT_SYMTAB))?;
    let names = contents(section(index(symtab + 0x28, 4)?)?)?;
    let name = |symbol: &[u8]| {
        let start = usize::try_from(u32::from_le_bytes(symbol.get(..4)?.try_into().ok()?)).ok()?;
        let rest = names.get(start..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(rest.get(..end)?).into_owned())
    };
    contents(symtab)?.chunks_exact(SYMBOL_SIZE).map(name).collect()
}

/// Whether the file had to be written. Written beside and renamed: whoever compiles meanwhile sees the old or the new.
fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<bool> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    let dir = path.parent().context("the object has no directory")?;
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let new = path.with_extension("new");
    fs::write(&new, bytes).with_context(|| format!("write {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("write {}", path.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest ELF object with a symbol table: header, strings, symbols, three section headers.
    fn object(name: &str) -> Vec<u8> {
        let strings = format!("\0{name}\0");
        let strings_at = 0x40;
        let symbols_at = strings_at + strings.len();
        let sections_at = symbols_at + 48;
        let mut elf = vec![0_u8; 0x40];
        elf[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        elf[0x28..0x30].copy_from_slice(&(sections_at as u64).to_le_bytes());
        elf[0x3a..0x3c].copy_from_slice(&0x40_u16.to_le_bytes());
        elf[0x3c..0x3e].copy_from_slice(&3_u16.to_le_bytes());
        elf.extend(strings.as_bytes());
        elf.extend([0; 24]);
        elf.extend([1].into_iter().chain([0; 23]));
        let mut section = |kind: u32, offset: usize, size: usize, link: u32| {
            let mut header = [0_u8; 0x40];
            header[4..8].copy_from_slice(&kind.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&(offset as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(size as u64).to_le_bytes());
            header[0x28..0x2c].copy_from_slice(&link.to_le_bytes());
            elf.extend(header);
        };
        section(0, 0, 0, 0);
        section(3, strings_at, strings.len(), 0);
        section(2, symbols_at, 48, 1);
        elf
    }

    #[test]
    fn finds_symbols() {
        assert_eq!(symbols(&object("connect4")), Some(vec![String::new(), "connect4".to_owned()]));
    }

    #[test]
    fn refuses_an_object_that_can_panic() {
        check(&object("connect4")).unwrap();
        let error = check(&object("_ZN4core9panicking5panic17h0E")).unwrap_err();
        assert!(error.to_string().contains("panic"), "{error}");
    }

    #[test]
    fn takes_no_damaged_object() {
        let whole = object("connect4");
        assert_eq!(symbols(b"not an object"), None);
        // The last 20 bytes are fields of the last section header that nobody reads.
        for length in 0..whole.len() - 20 {
            assert!(symbols(&whole[..length]).is_none(), "{length} bytes of {}", whole.len());
        }
    }

    #[test]
    fn leaves_an_unchanged_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/object");
        assert!(write_if_changed(&path, b"one").unwrap());
        assert!(!write_if_changed(&path, b"one").unwrap());
        assert!(write_if_changed(&path, b"two").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }
}
