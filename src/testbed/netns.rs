//! Named network namespaces, bind-mounted in /run/netns as iproute2 does, so that `ip netns exec NAME` works.

use super::TestbedError;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;

/// The directory in which iproute2 keeps the names of network namespaces.
const NAMES: &str = "/run/netns";

/// A setting below /proc/sys/net, with its value.
pub(super) type Sysctl = (&'static str, &'static str);

/// A network namespace with a name.
#[derive(Clone, Debug)]
pub struct Netns {
    name: String,
    path: PathBuf,
    file: Arc<File>,
}

impl Netns {
    /// Creates a namespace and leaves the calling thread in it. Must be called on a thread that may change namespaces.
    pub(super) fn create(name: &str, sysctls: &[Sysctl]) -> Result<Netns, TestbedError> {
        share_names()?;
        let path = Path::new(NAMES).join(name);
        let taken =
            "If it is left over from an earlier run, remove it with ip netns delete, or use another id";
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o000)
            .open(&path)
            .map_err(|source| system("create", &path, source, taken))?;
        let made = Netns::fill(name, &path, sysctls);
        if made.is_err()
            && let Err(error) = remove_path(&path)
        {
            tracing::warn!(%error, "a namespace that was not finished is left");
        }
        made
    }

    fn fill(name: &str, path: &Path, sysctls: &[Sysctl]) -> Result<Netns, TestbedError> {
        let root = "Run as root (CAP_SYS_ADMIN and CAP_NET_ADMIN)";
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| system("make the network namespace of", path, errno.into(), root))?;
        mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|errno| system("mount", path, errno.into(), root))?;
        for (key, value) in sysctls {
            let key = Path::new("/proc/sys/net").join(key);
            let cure = "Load the module that has it: modprobe br_netfilter, or boot with IPv6 enabled";
            fs::write(&key, value).map_err(|source| system("write", &key, source, cure))?;
        }
        let file = File::open(path).map_err(|source| system("open", path, source, root))?;
        Ok(Netns { name: name.to_owned(), path: path.to_owned(), file: Arc::new(file) })
    }

    /// Opens an existing namespace by its file: `/run/netns/NAME`, `/proc/PID/ns/net`. The name is only for messages,
    /// and this value never removes the namespace.
    pub fn open(name: &str, path: &Path) -> Result<Netns, TestbedError> {
        let file = File::open(path).map_err(|source| {
            system("open", path, source, "Run as root, while the process that holds it still runs")
        })?;
        Ok(Netns { name: name.to_owned(), path: path.to_owned(), file: Arc::new(file) })
    }

    /// Its name, for `ip netns exec NAME`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file in /run/netns, for `setns` or `nsenter --net=PATH`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its open file, by which netlink names it.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Moves the calling thread into it permanently. Must be called on a thread that may change namespaces.
    pub(super) fn hop(&self) -> Result<(), TestbedError> {
        setns(&*self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| {
            system("enter", &self.path, errno.into(), "Run as root (CAP_SYS_ADMIN and CAP_NET_ADMIN)")
        })
    }

    /// Runs `act` inside, on another thread; the calling thread waits and stays in its namespace.
    ///
    /// A socket created there stays in the namespace wherever it is used later. Fails if the namespace cannot be
    /// entered; a panic of `act` continues in the caller.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T, TestbedError> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| self.hop().map(|()| act()));
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a process inside. It sees the host's file system, /sys included.
    ///
    /// The caller must end it: while it runs, the kernel keeps the namespace even without a name.
    pub fn spawn(&self, command: &mut Command) -> Result<Child, TestbedError> {
        let program = command.get_program().to_owned();
        self.enter(|| command.spawn())?.map_err(|source| {
            system("start", Path::new(&program), source, "Install the program, or fix PATH")
        })
    }

    /// Removes its name; the kernel frees the namespace when the last socket and process inside are gone.
    pub(super) fn remove(&self) -> Result<(), TestbedError> {
        remove_path(&self.path)
    }
}

/// Removes every namespace whose name begins with `prefix`. Continues after errors, and returns them.
pub(super) fn sweep(prefix: &str) -> Result<Vec<String>, TestbedError> {
    let entries = match fs::read_dir(NAMES) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(system("list", Path::new(NAMES), source, "Run as root")),
    };
    let mut swept = Vec::new();
    let mut left = Vec::new();
    for entry in entries {
        let Ok(name) = entry.map(|entry| entry.file_name().to_string_lossy().into_owned()) else { continue };
        if !name.starts_with(prefix) {
            continue;
        }
        match remove_path(&Path::new(NAMES).join(&name)) {
            Ok(()) => swept.push(name),
            Err(error) => left.push(error.to_string()),
        }
    }
    if left.is_empty() { Ok(swept) } else { Err(TestbedError::Remains { left }) }
}

fn system(act: &'static str, object: &Path, source: io::Error, cure: &'static str) -> TestbedError {
    TestbedError::System { act, object: object.display().to_string(), source, cure }
}

/// Makes /run/netns a shared mount point, as iproute2 does, so that names appear in every mount namespace and can
/// be removed from any of them.
fn share_names() -> Result<(), TestbedError> {
    let names = Path::new(NAMES);
    let root = "Run as root (CAP_SYS_ADMIN and CAP_NET_ADMIN)";
    fs::create_dir_all(names).map_err(|source| system("create", names, source, root))?;
    let lock = File::open(names).map_err(|source| system("open", names, source, root))?;
    lock.lock().map_err(|source| system("lock", names, source, root))?;
    let share =
        || mount(None::<&str>, names, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    let shared = match share() {
        // Not a mount point yet.
        Err(Errno::EINVAL) => {
            mount(Some(names), names, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
                .and_then(|()| share())
        }
        other => other,
    };
    shared.map_err(|errno| system("share", names, errno.into(), root))
}

fn remove_path(path: &Path) -> Result<(), TestbedError> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // EINVAL: not mounted, a file left by a crash half-way.
        Ok(()) | Err(Errno::EINVAL) => {}
        Err(errno) => {
            return Err(system("unmount", path, errno.into(), "Unmount it by hand: umount --lazy PATH"));
        }
    }
    fs::remove_file(path).map_err(|source| system("remove", path, source, "Remove it by hand: rm PATH"))
}
