//! Loads the kernel side, pins it, and replaces the programs of an earlier process in place.
//!
//! Pins: `<bpffs>/v<abi>/maps/<map>` and `<bpffs>/v<abi>/links/<program>`. Maps that are pinned are used again with what is in
//! them, so that services go on working from one process to the next. All programs are loaded and verified before the first
//! one is replaced. On kernels before 6.6 the programs at the uplink are filters instead; see [`filters`].

mod discipline;
mod filters;
mod maps;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aya::programs::links::FdLink;
use aya::programs::{
    CgroupAttachMode, CgroupSockAddr, ProgramError, ProgramFd, SchedClassifier, TcAttachType,
};
use aya::{Ebpf, EbpfLoader};
use carrack_ebpf_abi::{VERSION, names};

use discipline::Direction;
pub(crate) use maps::Maps;
pub(crate) use maps::Setup;

use crate::error::NetworkError;
use crate::ipam::file_error;
use crate::sys::{self, LinkTarget};

/// The kernel side.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("CARRACK_BPF_OBJECT"));

/// An eBPF error with what was tried.
pub(crate) fn bpf_error<E>(action: impl Into<String>) -> impl FnOnce(E) -> NetworkError
where
    E: std::error::Error + Send + Sync + 'static,
{
    let action = action.into();
    move |error| NetworkError::Bpf { action, source: Box::new(error) }
}

/// Where the programs go.
pub(crate) struct Hooks<'a> {
    /// The cgroup whose sockets reach services.
    pub(crate) cgroup: &'a Path,
    /// The interface where pods are masqueraded, with its index.
    pub(crate) uplink: Option<(&'a str, u32)>,
    /// Where what is done to the uplink is recorded, if the kernel does not keep it.
    pub(crate) state_dir: &'a Path,
}

/// Loads everything, writes the setup into the maps, and attaches or replaces every program.
pub(crate) fn install(bpffs: &Path, setup: &Setup, hooks: &Hooks<'_>) -> Result<Maps, NetworkError> {
    let pins = bpffs.join(format!("v{VERSION}"));
    for dir in ["maps", "links"] {
        let dir = pins.join(dir);
        fs::create_dir_all(&dir).map_err(file_error("create", &dir))?;
    }
    let mut ebpf = load(&pins.join("maps"))?;
    let mut maps = Maps::take(&mut ebpf)?;
    maps.write_setup(setup)?;
    let cgroup = File::open(hooks.cgroup).map_err(file_error("open the services' cgroup", hooks.cgroup))?;
    let cgroup_id = cgroup.metadata().map_err(file_error("look at", hooks.cgroup))?.ino();
    load_programs(&mut ebpf, hooks.uplink.is_some())?;
    let links = pins.join("links");
    for name in names::SOCKET_PROGRAMS {
        let program: &mut CgroupSockAddr = program(&mut ebpf, name)?;
        let fd = fd_of(program.fd(), name)?;
        replace_or_attach(&links.join(name), &fd, LinkTarget::Cgroup(cgroup_id), || {
            // `Single` alone works with links, and then means the same as `AllowMultiple`.
            let id = program.attach(&cgroup, CgroupAttachMode::Single)?;
            Ok(program.take_link(id)?.try_into()?)
        })?;
    }
    install_masquerade(&mut ebpf, &links, hooks)?;
    remove_other_versions(bpffs)?;
    Ok(maps)
}

/// The programs at the uplink.
const MASQUERADE: [(&str, Direction); 2] =
    [(names::MASQUERADE_OUT, Direction::Egress), (names::MASQUERADE_IN, Direction::Ingress)];

/// Puts masquerade where it has to be, and takes it from where it was.
fn install_masquerade(ebpf: &mut Ebpf, links: &Path, hooks: &Hooks<'_>) -> Result<(), NetworkError> {
    let Some((uplink, index)) = hooks.uplink else {
        MASQUERADE.iter().try_for_each(|(name, _)| remove_pin(&links.join(name)))?;
        return filters::remove_all_but(hooks.state_dir, None);
    };
    if !has_tcx(uplink)? {
        tracing::info!(uplink, "this kernel has no tcx (Linux 6.6); masquerade is a filter of clsact");
        let mut programs = Vec::new();
        for (name, direction) in MASQUERADE {
            let program: &mut SchedClassifier = program(ebpf, name)?;
            programs.push((name, direction, fd_of(program.fd(), name)?));
        }
        let programs: Vec<_> = programs.iter().map(|(name, way, fd)| (*name, *way, fd.as_fd())).collect();
        return filters::attach(hooks.state_dir, (uplink, index), &programs);
    }
    for (name, direction) in MASQUERADE {
        let program: &mut SchedClassifier = program(ebpf, name)?;
        let fd = fd_of(program.fd(), name)?;
        replace_or_attach(&links.join(name), &fd, LinkTarget::Tcx(index), || {
            let direction = match direction {
                Direction::Ingress => TcAttachType::Ingress,
                Direction::Egress => TcAttachType::Egress,
            };
            let id = program.attach(uplink, direction)?;
            Ok(program.take_link(id)?.try_into()?)
        })?;
    }
    // What an older kernel's network left recorded.
    filters::remove_all_but(hooks.state_dir, None)
}

/// Whether the kernel attaches programs to interfaces by links.
fn has_tcx(uplink: &str) -> Result<bool, NetworkError> {
    match SchedClassifier::query_tcx(uplink, TcAttachType::Ingress) {
        Ok(_) => Ok(true),
        // The kernel does not know of such a place.
        Err(ProgramError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EINVAL) => {
            Ok(false)
        }
        Err(error) => Err(bpf_error(format!("look at the programs of {uplink}"))(error)),
    }
}

/// Loads the object; its maps are the pinned ones where there are any.
fn load(map_pins: &Path) -> Result<Ebpf, NetworkError> {
    let mut loader = EbpfLoader::new();
    // The programs look into no kernel structure, so the kernel's own type information is not needed.
    loader.btf(None);
    for name in names::MAPS {
        loader.map_pin_path(name, map_pins.join(name));
    }
    loader.load(OBJECT).map_err(bpf_error("load the maps"))
}

fn load_programs(ebpf: &mut Ebpf, masquerade: bool) -> Result<(), NetworkError> {
    for name in names::SOCKET_PROGRAMS {
        let program: &mut CgroupSockAddr = program(ebpf, name)?;
        program.load().map_err(bpf_error(format!("load {name}")))?;
    }
    for (name, _) in MASQUERADE.into_iter().filter(|_| masquerade) {
        let program: &mut SchedClassifier = program(ebpf, name)?;
        program.load().map_err(bpf_error(format!("load {name}")))?;
    }
    Ok(())
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, NetworkError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| NetworkError::Config(format!("the eBPF object has no program {name}")))?;
    program.try_into().map_err(bpf_error(format!("use {name}")))
}

/// A descriptor of its own for a program, so that the program can be borrowed for attaching.
fn fd_of(fd: Result<&ProgramFd, ProgramError>, name: &str) -> Result<ProgramFd, NetworkError> {
    let fd = fd.map_err(bpf_error(format!("use {name}")))?;
    fd.try_clone().map_err(bpf_error(format!("use {name}")))
}

/// What attaching gives: the link, or whatever went wrong.
type Attached = Result<FdLink, Box<dyn std::error::Error + Send + Sync>>;

/// Puts a program behind the link pinned at `pin`, or attaches it anew and pins the link.
///
/// A link to another target (a cgroup or interface that was made anew under its name) is unpinned, and thereby detached,
/// only after the new one stands.
fn replace_or_attach(
    pin: &Path,
    program: &ProgramFd,
    target: LinkTarget,
    attach: impl FnOnce() -> Attached,
) -> Result<(), NetworkError> {
    let name = pin.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match sys::open_pinned(pin) {
        Ok(link) => {
            let at =
                sys::link_target(link.as_fd()).map_err(bpf_error(format!("look at the link of {name}")))?;
            if at == target && sys::update_link(link.as_fd(), program.as_fd()).is_ok() {
                return Ok(());
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(file_error("open", pin)(error)),
    }
    let link = attach().map_err(|source| NetworkError::Bpf { action: format!("attach {name}"), source })?;
    remove_pin(pin)?;
    link.pin(pin).map_err(bpf_error(format!("pin the link of {name}")))?;
    Ok(())
}

fn remove_pin(pin: &Path) -> Result<(), NetworkError> {
    crate::host::remove_file(pin)
}

/// Removes what programs of another ABI left, after ours have taken over.
fn remove_other_versions(bpffs: &Path) -> Result<(), NetworkError> {
    let ours = format!("v{VERSION}");
    versions(bpffs)?.iter().filter(|path| !path.ends_with(&ours)).try_for_each(|path| remove_pins(path))
}

/// Unpins everything of ours in a bpffs; what nobody else holds is detached and freed. So are the uplink's filters.
pub(crate) fn remove_all(bpffs: &Path, state_dir: &Path) -> Result<(), NetworkError> {
    filters::remove_all_but(state_dir, None)?;
    versions(bpffs)?.iter().try_for_each(|path| remove_pins(path))
}

/// The directories `v<abi>` of a bpffs. The kernel puts files of its own beside them.
fn versions(bpffs: &Path) -> Result<Vec<PathBuf>, NetworkError> {
    let entries = match fs::read_dir(bpffs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file_error("read", bpffs)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(file_error("read", bpffs))?;
        let name = entry.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix('v')).unwrap_or_default();
        if digits.parse::<u32>().is_ok() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Links go first, so that no program runs with maps half gone.
fn remove_pins(dir: &Path) -> Result<(), NetworkError> {
    let remove = |path: PathBuf| match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error("remove", &path)(error)),
        _ => Ok(()),
    };
    remove(dir.join("links"))?;
    remove(dir.to_owned())
}
