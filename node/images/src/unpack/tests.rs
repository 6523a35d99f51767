//! Layers good and bad, unpacked into temporary folders. Needs root, as the node does.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use ::tar::{EntryType, Header};

use super::*;

/// Builds archives byte by byte, so that they may hold what a well-behaved tool would refuse to write.
#[derive(Default)]
struct Layer {
    bytes: Vec<u8>,
}

impl Layer {
    fn raw(mut self, kind: u8, path: &str, link: &str, mode: u32, data: &[u8]) -> Layer {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(EntryType::new(kind));
        header.set_mode(mode);
        header.set_uid(1000);
        header.set_gid(2000);
        header.set_mtime(1_500_000_000);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.bytes.extend(header.as_bytes());
        self.data(data)
    }

    fn data(mut self, data: &[u8]) -> Layer {
        self.bytes.extend(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, data: &[u8]) -> Layer {
        self.raw(b'0', path, "", 0o644, data)
    }

    fn dir(self, path: &str, mode: u32) -> Layer {
        self.raw(b'5', path, "", mode, b"")
    }

    fn symlink(self, path: &str, to: &str) -> Layer {
        self.raw(b'2', path, to, 0o777, b"")
    }

    fn hard_link(self, path: &str, to: &str) -> Layer {
        self.raw(b'1', path, to, 0o644, b"")
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Layer {
        let mut data = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let length = (body + 1..).find(|length| body + length.to_string().len() == *length).unwrap();
            write!(data, "{length} {key}=").unwrap();
            data.extend(*value);
            data.push(b'\n');
        }
        self.raw(b'x', "pax", "", 0o644, &data)
    }

    fn end(mut self) -> Vec<u8> {
        self.bytes.extend([0; 1024]);
        self.bytes
    }
}

/// A folder to unpack into, with something beside it that must never change.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        for name in ["fs", "trash", "outside"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("outside/secret"), b"untouched").unwrap();
        Place { dir }
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join("fs").join(inside)
    }

    fn unpack_with(&self, tar: &[u8], limits: Limits) -> Result<Unpacked, LayerError> {
        let expected = Expected { blob: Some((Digest::of(tar), tar.len() as u64)), diff_id: Digest::of(tar) };
        unpack(tar, &self.path(""), &self.dir.path().join("trash"), &expected, limits)
    }

    fn unpack(&self, tar: &[u8]) -> Result<Unpacked, LayerError> {
        self.unpack_with(tar, Limits::default())
    }

    fn assert_outside_is_untouched(&self) {
        let outside = self.dir.path().join("outside");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read(outside.join("secret")).unwrap(), b"untouched");
        assert_eq!(fs::metadata(outside.join("secret")).unwrap().nlink(), 1);
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 3);
    }
}

#[track_caller]
fn assert_refused(tar: Vec<u8>, why: &str) {
    let place = Place::new();
    let error = place.unpack(&tar).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
    place.assert_outside_is_untouched();
}

fn xattr(path: &std::path::Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 100];
    let length = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn keeps_owners_modes_times_and_links() {
    let place = Place::new();
    let tar = Layer::default()
        .dir("./", 0o755)
        .dir("bin/", 0o1777)
        .raw(b'0', "bin/su", "", 0o4755, b"program")
        .hard_link("bin/doas", "bin/su")
        .symlink("sbin", "/bin")
        .raw(b'6', "pipe", "", 0o620, b"")
        .end();
    place.unpack(&tar).unwrap();
    let su = fs::metadata(place.path("bin/su")).unwrap();
    assert_eq!((su.uid(), su.gid(), su.mode() & 0o7777, su.mtime()), (1000, 2000, 0o4755, 1_500_000_000));
    assert_eq!(su.ino(), fs::metadata(place.path("bin/doas")).unwrap().ino());
    let bin = fs::metadata(place.path("bin")).unwrap();
    assert_eq!((bin.mode() & 0o7777, bin.mtime()), (0o1777, 1_500_000_000));
    let link = fs::symlink_metadata(place.path("sbin")).unwrap();
    assert_eq!((link.uid(), link.mtime()), (1000, 1_500_000_000));
    assert_eq!(fs::read_link(place.path("sbin")).unwrap().to_str(), Some("/bin"));
    assert_eq!(fs::metadata(place.path("pipe")).unwrap().mode(), 0o010_620);
}

#[test]
fn keeps_capabilities_but_not_overlay_attributes() {
    let place = Place::new();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = Layer::default()
        .pax(&[
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ])
        .file("ping", b"program")
        .end();
    place.unpack(&tar).unwrap();
    assert_eq!(xattr(&place.path("ping"), "security.capability").unwrap(), capability);
    assert_eq!(xattr(&place.path("ping"), "trusted.overlay.redirect"), None);
    assert_eq!(xattr(&place.path("ping"), "trusted.overlay.opaque"), None);
}

#[test]
fn turns_whiteouts_into_overlayfs_form() {
    let place = Place::new();
    let tar = Layer::default()
        .dir("etc/", 0o755)
        .file("etc/.wh.passwd", b"")
        .file("var/lib/.wh..wh..opq", b"")
        .file("var/lib/new", b"")
        .file(".wh..wh.plnk", b"")
        .file("own", b"stays")
        .file(".wh.own", b"")
        .file(".wh.replaced", b"")
        .dir("replaced/", 0o755)
        .end();
    let unpacked = place.unpack(&tar).unwrap();
    let gone = fs::symlink_metadata(place.path("etc/passwd")).unwrap();
    assert_eq!((gone.mode() & 0o170_000, gone.rdev()), (0o020_000, 0));
    assert_eq!(xattr(&place.path("var/lib"), OPAQUE).as_deref(), Some(&b"y"[..]));
    assert_eq!(xattr(&place.path("etc"), OPAQUE), None);
    assert_eq!(fs::read(place.path("own")).unwrap(), b"stays");
    assert_eq!(xattr(&place.path("replaced"), OPAQUE).as_deref(), Some(&b"y"[..]));
    assert!(!place.path(".wh..wh.plnk").exists());
    assert_eq!(unpacked.implicit, [b"var".to_vec(), b"var/lib".to_vec()]);
    assert_eq!(fs::metadata(place.path("var")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let place = Place::new();
    let tar = Layer::default()
        .dir("a/", 0o700)
        .file("a/b/c", b"inside")
        .file("a", b"now a file")
        .symlink("l", "a")
        .file("l", b"now a file too")
        .end();
    place.unpack(&tar).unwrap();
    assert_eq!(fs::read(place.path("a")).unwrap(), b"now a file");
    assert_eq!(fs::read(place.path("l")).unwrap(), b"now a file too");
}

#[test]
fn absolute_names_are_relative_to_the_layer() {
    let place = Place::new();
    place.unpack(&Layer::default().file("/etc/motd", b"hello").end()).unwrap();
    assert_eq!(fs::read(place.path("etc/motd")).unwrap(), b"hello");
}

#[test]
fn writing_through_a_link_stays_inside() {
    let place = Place::new();
    let outside = place.dir.path().join("outside");
    let tar = Layer::default()
        .symlink("absolute", outside.to_str().unwrap())
        .file("absolute/secret", b"stolen")
        .symlink("relative", "../outside")
        .file("relative/secret", b"stolen")
        .end();
    place.unpack(&tar).unwrap_err();
    place.assert_outside_is_untouched();
    let inside = outside.strip_prefix("/").unwrap();
    let place = Place::new();
    let tar = Layer::default()
        .dir(inside.to_str().unwrap(), 0o755)
        .symlink("absolute", outside.to_str().unwrap())
        .file("absolute/secret", b"stolen")
        .end();
    place.unpack(&tar).unwrap();
    assert_eq!(fs::read(place.path(inside.to_str().unwrap()).join("secret")).unwrap(), b"stolen");
    place.assert_outside_is_untouched();
}

#[test]
fn refuses_what_leads_out() {
    assert_refused(Layer::default().file("../outside/secret", b"x").end(), "\"..\"");
    assert_refused(Layer::default().file("a/../../outside/secret", b"x").end(), "\"..\"");
    assert_refused(Layer::default().dir("..", 0o777).end(), "\"..\"");
    assert_refused(Layer::default().file(".wh...", b"").end(), "whiteout of no name");
    assert_refused(Layer::default().file(".wh.", b"").end(), "whiteout of no name");
    assert_refused(Layer::default().hard_link("a", "../outside/secret").end(), "its target leads out");
    assert_refused(Layer::default().hard_link("a", "/etc/passwd").end(), "its target is not in the layer");
    let through = Layer::default().symlink("up", "../outside").hard_link("a", "up/secret").end();
    assert_refused(through, "its target is not in the layer");
    assert_refused(Layer::default().file("a", b"").hard_link("b", ".").end(), "root of the layer");
    assert_refused(Layer::default().dir("a", 0o755).hard_link("b", "a").end(), "not a file");
    assert_refused(Layer::default().symlink(".", "/").end(), "root of the layer");
    let long = Layer::default().pax(&[("path", &[b'a'; 5000])]).file("x", b"").end();
    assert_refused(long, "a path of 5000 bytes");
    let name = Layer::default().pax(&[("path", &[b'a'; 300])]).file("x", b"").end();
    assert_refused(name, "its name is too long");
    let deep = "a/".repeat(300);
    assert_refused(
        Layer::default().pax(&[("path", deep.as_bytes())]).file("x", b"").end(),
        "nested too deeply",
    );
    assert_refused(Layer::default().pax(&[("path", b"a\0b")]).file("x", b"").end(), "NUL");
    assert_refused(Layer::default().symlink("a", "a").file("a/b", b"").end(), "circle of links");
    assert_refused(Layer::default().file("a", b"").file("a/b", b"").end(), "not a directory");
}

#[test]
fn refuses_devices() {
    for kind in [b'3', b'4'] {
        assert_refused(
            Layer::default().raw(kind, "sda", "", 0o666, b"").end(),
            "device nodes are not allowed",
        );
    }
    assert_refused(Layer::default().raw(b'V', "label", "", 0, b"").end(), "type is not known");
}

#[test]
fn refuses_what_is_too_large() {
    let place = Place::new();
    let limits = Limits { entries: 3, bytes: 10_000, file: 4000 };
    let many = (0..4).fold(Layer::default(), |layer, n| layer.file(&format!("f{n}"), b"")).end();
    assert!(matches!(place.unpack_with(&many, limits), Err(LayerError::TooLarge(_))));
    let big = Layer::default().file("big", &[0; 4001]).end();
    assert!(matches!(place.unpack_with(&big, limits), Err(LayerError::TooLarge(_))));
    let sum = Layer::default().file("1", &[0; 4000]).file("2", &[0; 4000]).file("3", &[0; 4000]).end();
    assert!(matches!(place.unpack_with(&sum, limits), Err(LayerError::TooLarge(_))));
    // A header that promises more than any disk holds is refused before a byte is written.
    let mut huge = Layer::default().pax(&[("size", b"9000000000000000000")]).file("huge", b"").end();
    assert!(matches!(place.unpack(&huge), Err(LayerError::TooLarge(_))));
    huge.truncate(0);
    // A bomb: little on the wire, much on the disk.
    let bomb = Layer::default().file("zeros", &vec![0; 9_000_000]).end();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&bomb).unwrap();
    let packed = gzip.finish().unwrap();
    assert!(packed.len() < 10_000);
    let expected = Expected { blob: None, diff_id: Digest::of(&bomb) };
    let limits = Limits { bytes: 1_000_000, ..Limits::default() };
    let outcome = unpack(&packed[..], &place.path(""), &place.dir.path().join("trash"), &expected, limits);
    assert!(matches!(outcome, Err(LayerError::TooLarge(_))), "{outcome:?}");
}

#[test]
fn reads_all_forms_of_long_names() {
    let long = "d/".repeat(100) + "file";
    let gnu = Layer::default()
        .raw(b'L', "././@LongLink", "", 0, format!("{long}\0").as_bytes())
        .file("short", b"gnu")
        .raw(b'K', "././@LongLink", "", 0, format!("{long}\0").as_bytes())
        .symlink("link", "short")
        .end();
    let place = Place::new();
    place.unpack(&gnu).unwrap();
    assert_eq!(fs::read(place.path(&long)).unwrap(), b"gnu");
    assert_eq!(fs::read_link(place.path("link")).unwrap().to_str(), Some(&*long));
    let pax = Layer::default()
        .pax(&[("path", long.as_bytes()), ("mtime", b"1500000000.25"), ("uid", b"3000000")])
        .file("short", b"pax")
        .end();
    let place = Place::new();
    place.unpack(&pax).unwrap();
    let found = fs::metadata(place.path(&long)).unwrap();
    assert_eq!((found.uid(), found.mtime(), found.mtime_nsec()), (3_000_000, 1_500_000_000, 250_000_000));
}

#[test]
fn reads_what_gnu_tar_writes_for_sparse_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = fs::File::create(dir.path().join("sparse")).unwrap();
    for offset in [0u64, 1 << 20, 5 << 20] {
        rustix::io::pwrite(&file, &[7; 4096], offset).unwrap();
    }
    file.set_len(9 << 20).unwrap();
    for format in ["gnu", "posix"] {
        let tar = std::process::Command::new("tar")
            .args(["-S", "--format", format, "-cf", "-", "-C"])
            .arg(dir.path())
            .arg("sparse")
            .output()
            .unwrap();
        assert!(tar.status.success());
        assert!(tar.stdout.len() < 1 << 20, "the archive is sparse");
        let place = Place::new();
        place.unpack(&tar.stdout).unwrap();
        assert!(fs::read(place.path("sparse")).unwrap() == fs::read(dir.path().join("sparse")).unwrap());
        assert!(fs::metadata(place.path("sparse")).unwrap().blocks() * 512 < 1 << 20);
    }
}

#[test]
fn refuses_sparse_maps_that_lie() {
    let map = |map: &[u8], size: &[u8]| {
        Layer::default().pax(&[("GNU.sparse.map", map), ("GNU.sparse.size", size)]).file("s", &[1; 100]).end()
    };
    assert!(Place::new().unpack(&map(b"0,50,80,50", b"200")).is_ok());
    for (pieces, size) in [
        (&b"0,50,40,50"[..], &b"200"[..]),
        (b"0,100", b"50"),
        (b"0,50", b"200"),
        (b"18446744073709551615,100", b"200"),
        (b"0", b"200"),
    ] {
        assert!(matches!(Place::new().unpack(&map(pieces, size)), Err(LayerError::Malformed(_))));
    }
}

#[test]
fn tells_tampering_from_truncation() {
    let tar = Layer::default().file("a", &[1; 3000]).end();
    let expected = Expected { blob: Some((Digest::of(&tar), tar.len() as u64)), diff_id: Digest::of(&tar) };
    let run = |bytes: &[u8]| {
        let place = Place::new();
        let trash = place.dir.path().join("trash");
        unpack(bytes, &place.path(""), &trash, &expected, Limits::default()).unwrap_err()
    };
    for index in [0, 600, tar.len() - 1] {
        let mut tampered = tar.clone();
        tampered[index] ^= 1;
        assert!(matches!(run(&tampered), LayerError::DigestMismatch { .. }), "byte {index}");
    }
    for length in [0, 1, 511, 512, 1000, tar.len() - 1] {
        assert!(matches!(run(&tar[..length]), LayerError::Truncated { .. }), "{length} bytes");
    }
    let mut longer = tar.clone();
    longer.push(0);
    assert!(matches!(run(&longer), LayerError::DigestMismatch { .. }));
}

#[test]
fn refuses_a_layer_whose_content_is_not_the_one_in_the_configuration() {
    let tar = Layer::default().file("a", b"x").end();
    let expected =
        Expected { blob: Some((Digest::of(&tar), tar.len() as u64)), diff_id: Digest::of(b"other") };
    let place = Place::new();
    let outcome =
        unpack(&tar[..], &place.path(""), &place.dir.path().join("trash"), &expected, Limits::default());
    assert!(matches!(outcome, Err(LayerError::DigestMismatch { .. })));
}

#[test]
fn reads_gzip_and_zstd_whatever_the_media_type_says() {
    let tar = Layer::default().file("a", b"content").end();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    for packed in [gzip.finish().unwrap(), zstd::encode_all(&tar[..], 1).unwrap()] {
        let place = Place::new();
        let blob = Some((Digest::of(&packed), packed.len() as u64));
        let expected = Expected { blob, diff_id: Digest::of(&tar) };
        unpack(&packed[..], &place.path(""), &place.dir.path().join("trash"), &expected, Limits::default())
            .unwrap();
        assert_eq!(fs::read(place.path("a")).unwrap(), b"content");
    }
}

#[test]
fn a_full_disk_is_told_as_such() {
    let place = Place::new();
    let full = place.dir.path().join("full");
    fs::create_dir(&full).unwrap();
    rustix::mount::mount("tmpfs", &full, "tmpfs", rustix::mount::MountFlags::empty(), Some(c"size=65536"))
        .unwrap();
    for name in ["fs", "trash"] {
        fs::create_dir(full.join(name)).unwrap();
    }
    let tar = Layer::default().file("big", &vec![1; 1 << 20]).end();
    let expected = Expected { blob: None, diff_id: Digest::of(&tar) };
    let outcome = unpack(&tar[..], &full.join("fs"), &full.join("trash"), &expected, Limits::default());
    rustix::mount::unmount(&full, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(matches!(outcome, Err(LayerError::NoSpace)), "{outcome:?}");
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let place = Place::new();
    let tar = Layer::default().file("shared/file", b"").raw(b'0', "open", "", 0o666, b"").end();
    place.unpack(&tar).unwrap();
    assert_eq!(fs::metadata(place.path("open")).unwrap().permissions().mode() & 0o7777, 0o666);
    assert_eq!(fs::metadata(place.path("shared")).unwrap().permissions().mode() & 0o7777, 0o755);
}
