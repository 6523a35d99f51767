//! Updates, and every state that a crash can leave between two steps.

use super::*;

fn payload(files: &[(&str, &str)]) -> Payload {
    let file = |data: &str| File { data: data.as_bytes().to_owned(), mode: 0o644, user: None };
    files.iter().map(|(path, data)| ((*path).to_owned(), file(data))).collect()
}

fn put(dir: &Path, files: &[(&str, &str)]) -> bool {
    write(dir, &payload(files), |_| Ok(())).unwrap()
}

/// All names in the folder, the timestamped ones shortened.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        entries.map(|name| if name.starts_with("..2") { "..time".to_owned() } else { name }).collect();
    names.sort();
    names
}

#[track_caller]
fn assert_shows(dir: &Path, files: &[(&str, &str)]) {
    for (path, data) in files {
        assert_eq!(fs::read_to_string(dir.join(path)).unwrap(), *data, "{path}");
    }
    let mut expected: BTreeSet<String> = ["..data", "..time"].map(str::to_owned).into();
    expected.extend(files.iter().map(|(path, _)| path.split('/').next().unwrap().to_owned()));
    assert_eq!(names(dir), expected.into_iter().collect::<Vec<_>>());
}

#[test]
fn writes_and_updates() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let first = [("a", "1"), ("inner/b", "2"), ("inner/c", "3")];
    assert!(put(dir, &first));
    assert_shows(dir, &first);
    assert_eq!(fs::read_link(dir.join("a")).unwrap(), Path::new("..data/a"));
    assert_eq!(fs::read_link(dir.join("inner")).unwrap(), Path::new("..data/inner"));
    let before = fs::read_link(dir.join("..data")).unwrap();
    assert!(!put(dir, &first), "the same again changes nothing");
    assert_eq!(fs::read_link(dir.join("..data")).unwrap(), before);

    let second = [("a", "new"), ("inner/c", "3"), ("d", "4")];
    assert!(put(dir, &second));
    assert_shows(dir, &second);
    assert!(!dir.join("inner/b").exists());
    assert!(put(dir, &[]));
    assert_shows(dir, &[]);
}

#[test]
fn a_reader_who_has_the_old_file_open_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &[("a", "old")]);
    let mut held = fs::File::open(dir.path().join("a")).unwrap();
    put(dir.path(), &[("a", "new")]);
    let mut text = String::new();
    io::Read::read_to_string(&mut held, &mut text).unwrap();
    assert_eq!((text.as_str(), fs::read_to_string(dir.path().join("a")).unwrap().as_str()), ("old", "new"));
}

#[test]
fn sees_changes_of_mode_and_owner() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = payload(&[("a", "1")]);
    let put = |files: &Payload| write(dir.path(), files, |_| Ok(())).unwrap();
    assert!(put(&files));
    files.get_mut("a").unwrap().mode = 0o600;
    assert!(put(&files));
    assert_eq!(fs::metadata(dir.path().join("a")).unwrap().mode() & 0o7777, 0o600);
    files.get_mut("a").unwrap().user = Some(1000);
    assert!(put(&files));
    assert_eq!(fs::metadata(dir.path().join("a")).unwrap().uid(), 1000);
    assert!(!put(&files));
}

/// Each closure makes the state in which one crash leaves the folder; whatever it is, the next write converges.
#[test]
fn finishes_what_a_crash_left() {
    type Crash = fn(&Path);
    let crashes: [(&str, Crash); 6] = [
        ("a new folder, partly written", |dir| {
            fs::create_dir(dir.join("..2001_01_01_00_00_00.000000000")).unwrap();
            fs::write(dir.join("..2001_01_01_00_00_00.000000000/a"), "ha").unwrap();
        }),
        ("the new link, not renamed yet", |dir| {
            fs::create_dir(dir.join("..2001_01_01_00_00_00.000000000")).unwrap();
            symlink("..2001_01_01_00_00_00.000000000", dir.join("..data_tmp")).unwrap();
        }),
        ("switched, but the new names are not shown", |dir| fs::remove_file(dir.join("a")).unwrap()),
        ("a name that leads to nothing is still shown", |dir| {
            symlink("..data/gone", dir.join("gone")).unwrap()
        }),
        ("the link names a folder that is gone", |dir| {
            let folder = fs::read_link(dir.join("..data")).unwrap();
            fs::remove_dir_all(dir.join(folder)).unwrap();
        }),
        ("a file lost its content to a power failure", |dir| fs::write(dir.join("a"), "").unwrap()),
    ];
    for (what, crash) in crashes {
        for files in [&[("a", "1"), ("b", "2")][..], &[("a", "3")]] {
            let dir = tempfile::tempdir().unwrap();
            put(dir.path(), &[("a", "1"), ("b", "2")]);
            crash(dir.path());
            put(dir.path(), files);
            assert_eq!(names(dir.path()).len(), files.len() + 2, "{what}");
            assert_shows(dir.path(), files);
            assert!(!put(dir.path(), files), "{what}");
        }
    }
}

#[test]
fn leaves_mount_points_of_others_alone() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &[("a", "1")]);
    fs::create_dir(dir.path().join("nested")).unwrap();
    put(dir.path(), &[("a", "2")]);
    assert!(dir.path().join("nested").is_dir());
}

#[test]
fn a_failed_write_shows_nothing_new() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &[("a", "1")]);
    let refused = write(dir.path(), &payload(&[("a", "2")]), |_| Err(io::Error::other("no")));
    assert!(refused.is_err());
    assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "1");
    put(dir.path(), &[("a", "2")]);
    assert_shows(dir.path(), &[("a", "2")]);
}

#[test]
fn refuses_paths_that_lead_out() {
    let long = "a".repeat(256);
    for path in ["", "/etc/passwd", "..", "../a", "a/../../b", "..data", "..hidden/x", "a\0b", &long] {
        assert!(check_path(path).is_err(), "{path}");
    }
    for path in ["a", "a/b", ".hidden", "a..b", ".a/b"] {
        assert!(check_path(path).is_ok(), "{path}");
    }
}
