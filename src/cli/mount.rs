//! `mailbraid mount STORE MOUNTPOINT [-o OPTS] [-f]`: the main job.
//!
//! Without `-f` the command starts itself anew in the background and waits on a pipe: the child says `ready` once the mount answers, and only then the
//! command exits 0; a child that fails has said why on the standard error both share. (A fork would have to come before any thread; a new
//! process needs no such care.) The daemon starts its program anew once more, as the same process, since its allocator reads its settings before `main`.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use log::{error, info, warn};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::options::Options;
use super::syslog::{self, SystemLog};
use super::{Failure, control, create_options};
use crate::awake;
use crate::config::Config;
use crate::fs::{Fs, FsOptions};
use crate::fuse::{self, MountConfig, mounted_at};
use crate::limits;
use crate::store::{Backing, Layout, LiveView, OpenOptions, Store, StoreError};
use crate::sync::Sync;

/// The allocator's setting: what is free goes back to the kernel at once. It would be kept until something is freed a second later, and a folder of 1,000,000 messages, once listed,
/// cost 100 bytes a message more for as long.
const PURGE: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "0");

/// Runs the command.
pub fn run(
    store: &Path,
    mountpoint: &Path,
    options: &Options,
    foreground: bool,
    background: bool,
) -> Result<ExitCode, Failure> {
    let mountpoint = check_mountpoint(mountpoint)?;
    let store = absolute(store)?;
    if store.starts_with(&mountpoint) {
        return Err(format!(
            "{}: the store lies below the mount point and would be hidden by it; name a place beside it",
            store.display()
        ));
    }
    if !foreground && !background {
        return start_background();
    }
    begin_anew();
    start_log(background);
    if background {
        // A session of its own: the terminal's end is not the mount's.
        let _ = rustix::process::setsid();
        let _ = std::env::set_current_dir("/");
    }
    serve(&store, &mountpoint, options, background)?;
    Ok(ExitCode::SUCCESS)
}

/// Watches a daemon: see [`fuse::guard`].
pub fn guard(mountpoint: &Path, daemon: u32) -> Result<ExitCode, Failure> {
    start_log(true);
    fuse::guard::run(mountpoint, daemon)
        .map_err(|error| format!("{}: {error}", mountpoint.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn start_log(background: bool) {
    let mut log = env_logger::Builder::from_env(
        env_logger::Env::new().filter_or("MAILBRAID_LOG", "info,fuser=warn"),
    );
    if background {
        log.format(|out, record| {
            writeln!(out, "{}{}", syslog::severity(record.level()), record.args())
        })
        .target(env_logger::Target::Pipe(Box::new(SystemLog::open())));
    } else if std::env::var_os("JOURNAL_STREAM").is_some() {
        // Started by systemd: journald reads the level from the line's head and knows all the rest.
        log.format(|out, record| {
            writeln!(
                out,
                "<{}>{}",
                syslog::severity(record.level()),
                record.args()
            )
        });
    } else {
        log.format(|out, record| {
            let level = record.level().as_str().to_lowercase();
            if record.level() < log::Level::Debug {
                return writeln!(out, "mailbraid: {level}: {}", record.args());
            }
            // Who reads these wants to know where the time goes.
            let now = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default();
            writeln!(
                out,
                "mailbraid: {level}: {}.{:06} {}",
                now.as_secs(),
                now.subsec_micros(),
                record.args()
            )
        });
    }
    // A second logger in one process is a test's doing.
    let _ = log.try_init();
}

/// Starts the program that this process runs anew, with [`PURGE`]. Who has set that has it his way; where the program cannot be started it goes on without.
fn begin_anew() {
    if std::env::var_os(PURGE.0).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        let args = std::env::args_os().skip(1);
        let _ = Command::new(program)
            .args(args)
            .env(PURGE.0, PURGE.1)
            .exec();
    }
}

/// Starts this command again with `--background` and waits for its word.
fn start_background() -> Result<ExitCode, Failure> {
    let program =
        std::env::current_exe().map_err(|error| format!("cannot find myself: {error}"))?;
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .arg("--background")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start in the background: {error}; use -f"))?;
    let mut word = String::new();
    if let Some(pipe) = child.stdout.take() {
        let _ = BufReader::new(pipe).read_line(&mut word);
    }
    if word.trim() == "ready" {
        return Ok(ExitCode::SUCCESS);
    }
    let code = child
        .wait()
        .ok()
        .and_then(|status| status.code())
        .unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1).max(1)))
}

fn serve(
    store: &Path,
    mountpoint: &Path,
    options: &Options,
    background: bool,
) -> Result<(), Failure> {
    if !options.idle_sleep
        && let Err(error) = awake::begin()
    {
        info!(
            "{}: {error}; processors sleep between requests",
            awake::DEVICE
        );
    }
    let opened = open(store)?;
    let config = Config::read(opened.repo()).map_err(|error| error.to_string())?;
    let fs = Fs::new(
        Arc::clone(&opened) as Arc<dyn Backing>,
        FsOptions {
            uid: options
                .uid
                .unwrap_or_else(|| rustix::process::geteuid().as_raw()),
            gid: options
                .gid
                .unwrap_or_else(|| rustix::process::getegid().as_raw()),
            umask: options.umask.unwrap_or(0o077),
            read_only: options.read_only,
            durability: options.durability.unwrap_or(config.durability),
            assign_uids: config.assign_uids,
        },
    )
    .map_err(|error| format!("{}: {error}; run mailbraid check", store.display()))?;
    opened.attach(Arc::clone(&fs) as Arc<dyn LiveView>);
    opened.set_mountpoint(mountpoint);
    let mut mounted = fuse::mount(
        &fs,
        mountpoint,
        &MountConfig {
            source: store.to_owned(),
            allow_other: options.allow_other,
            read_only: options.read_only,
            threads: options.threads.unwrap_or(limits::FUSE_THREADS),
            kernel: options.kernel.clone(),
        },
    )
    .map_err(|error| format!("cannot mount on {}: {error}", mountpoint.display()))?;

    if let Err(error) = fuse::guard::start(mountpoint) {
        warn!("nobody watches this daemon, and a mount of one that is killed may hang: {error}");
    }
    let sync = Sync::start(&opened).map_err(|error| error.to_string())?;
    let socket = opened.layout().control();
    start_control(&socket, &opened, &fs, &sync)
        .map_err(|error| format!("{}: {error}", socket.display()))?;
    start_flusher(&fs).map_err(|error| error.to_string())?;
    let (ended, end) = crossbeam_channel::bounded::<()>(1);
    start_signals(mountpoint, &fs, &opened, &sync, end).map_err(|error| error.to_string())?;

    info!("{} is mounted on {}", store.display(), mountpoint.display());
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    if background {
        let _ = writeln!(io::stdout(), "ready");
        detach_streams();
    }
    let served = mounted.serve();
    let _ = ended.send(());
    // From now on nobody is to take us for a daemon that answers.
    let _ = fs::remove_file(&socket);
    finish(&fs, &opened, &sync);
    served.map_err(|error| format!("the connection to the kernel broke: {error}; remount"))
}

/// Opens the store, created if absent. A daemon whose mount is gone, after `umount` say, is on its way out and waited for.
fn open(store: &Path) -> Result<Arc<Store>, Failure> {
    let options = OpenOptions {
        create: Some(create_options()?),
        ..OpenOptions::default()
    };
    let layout = Layout::new(store);
    loop {
        match Store::open(store, &options) {
            Ok(opened) => return Ok(opened),
            Err(error @ StoreError::InUse { .. }) => {
                if !control::wait_released(&layout, || is_mounted(&layout)) {
                    return Err(error.to_string());
                }
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Whether the daemon that holds the store answers, and its mount is there.
fn is_mounted(layout: &Layout) -> bool {
    control::ask(&layout.control(), "status")
        .ok()
        .flatten()
        .and_then(|status| Some(status.get("mountpoint")?.as_str()?.to_owned()))
        .is_some_and(|mountpoint| is_our_mount(Path::new(&mountpoint)))
}

/// Commits everything: content at rest first, then what the journal holds. The peers get a moment to take it.
fn finish(fs: &Fs, store: &Store, sync: &Sync) {
    fs.commit_rested(true);
    if let Err(error) = store.flush() {
        warn!("what the journal holds is not committed yet: {error}");
    }
    sync.stop();
    store.stop();
}

fn start_control(
    socket: &Path,
    store: &Arc<Store>,
    fs: &Arc<Fs>,
    sync: &Arc<Sync>,
) -> io::Result<()> {
    // Weak, so that the socket's thread does not keep a stopped store open.
    let store = Arc::downgrade(store);
    let fs = Arc::downgrade(fs);
    let sync = Arc::downgrade(sync);
    control::listen(
        socket,
        Box::new(move |request| {
            let (Some(store), Some(fs), Some(sync)) =
                (store.upgrade(), fs.upgrade(), sync.upgrade())
            else {
                return Err("the daemon is stopping".to_owned());
            };
            match request {
                "status" => serde_json::to_value(store.status()).map_err(|error| error.to_string()),
                "flush" | "flush peers" => {
                    fs.commit_rested(true);
                    store.flush().map_err(|error| error.to_string())?;
                    if request == "flush peers" {
                        sync.flush()?;
                    }
                    Ok(json!({}))
                }
                other => Err(format!("unknown request {other:?}")),
            }
        }),
    )
}

/// Records content that was written in place and has come to rest.
fn start_flusher(fs: &Arc<Fs>) -> io::Result<()> {
    let fs = Arc::downgrade(fs);
    std::thread::Builder::new()
        .name("mb-rest".to_owned())
        .spawn(move || {
            while let Some(fs) = fs.upgrade() {
                fs.commit_rested(false);
                drop(fs);
                std::thread::sleep(limits::WRITE_REST);
            }
        })?;
    Ok(())
}

/// A signal unmounts; what then ends is the serving. Where open files keep the mount alive, the daemon commits and goes.
fn start_signals(
    mountpoint: &Path,
    fs: &Arc<Fs>,
    store: &Arc<Store>,
    sync: &Arc<Sync>,
    end: crossbeam_channel::Receiver<()>,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let mountpoint = mountpoint.to_owned();
    let fs = Arc::downgrade(fs);
    let store = Arc::downgrade(store);
    let sync = Arc::downgrade(sync);
    std::thread::Builder::new()
        .name("mb-signal".to_owned())
        .spawn(move || {
            let Some(signal) = signals.forever().next() else {
                return;
            };
            info!("signal {signal}: unmounting {}", mountpoint.display());
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
            if let Err(error) = fuse::unmount(&mountpoint) {
                warn!("{}: {error}", mountpoint.display());
            }
            if end.recv_timeout(limits::STOP_WAIT).is_ok() {
                return;
            }
            warn!(
                "files are still open below {}; committing and ending all the same",
                mountpoint.display()
            );
            if let (Some(fs), Some(store), Some(sync)) =
                (fs.upgrade(), store.upgrade(), sync.upgrade())
            {
                let _ = fs::remove_file(store.layout().control());
                finish(&fs, &store, &sync);
            }
            std::process::exit(0);
        })?;
    Ok(())
}

/// A daemon holds no terminal and no pipe of its starter.
fn detach_streams() {
    match fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
    {
        Ok(null) => {
            let done = rustix::stdio::dup2_stdin(&null)
                .and_then(|()| rustix::stdio::dup2_stdout(&null))
                .and_then(|()| rustix::stdio::dup2_stderr(&null));
            if let Err(error) = done {
                error!("/dev/null: {error}");
            }
        }
        Err(error) => error!("/dev/null: {error}"),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    match path.canonicalize() {
        Ok(path) => Ok(path),
        Err(_) => std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display())),
    }
}

/// The mount point, absolute: a directory that is there, and no mount of ours already. A mount whose daemon was killed is freed: a
/// remount needs no manual step.
fn check_mountpoint(path: &Path) -> Result<PathBuf, Failure> {
    let shown = path.display();
    // A mount on a mount leaves as many dead ones; the kernel has a bound of its own.
    while is_dead(path) {
        let whole = absolute_by_parent(path)?;
        if !is_our_mount(&whole) {
            return Err(format!(
                "{shown}: another filesystem's mount whose daemon is gone; free it with `umount -l {shown}`"
            ));
        }
        fuse::unmount(&whole).map_err(|error| {
            format!("{shown}: the mount of a daemon that is gone cannot be freed: {error}; try `umount -l {shown}`")
        })?;
    }
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!(
                "{shown}: no such directory; create the mount point with `mkdir -p {shown}`"
            ));
        }
        Err(error) => return Err(format!("{shown}: {error}")),
    };
    if !metadata.is_dir() {
        return Err(format!(
            "{shown}: not a directory; name a directory as the mount point"
        ));
    }
    let path = absolute(path)?;
    if is_our_mount(&path) {
        return Err(format!(
            "{shown}: a mailbraid store is mounted here already; unmount it first with `umount {shown}`"
        ));
    }
    Ok(path)
}

/// Whether a mount's daemon is gone. The kernel may still know the attributes, so what is asked is never remembered.
fn is_dead(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_err_and(|error| error == rustix::io::Errno::NOTCONN)
}

/// As [`absolute`], for a path that cannot be looked at itself.
fn absolute_by_parent(path: &Path) -> Result<PathBuf, Failure> {
    let whole =
        std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
    match (
        whole.parent().and_then(|above| above.canonicalize().ok()),
        whole.file_name(),
    ) {
        (Some(above), Some(name)) => Ok(above.join(name)),
        _ => Ok(whole),
    }
}

/// Whether a mailbraid store is, or was, mounted on this absolute path.
fn is_our_mount(path: &Path) -> bool {
    mounted_at(path).is_some_and(|mount| mount.is_ours())
}

/// Whether a path lies in a mount of ours. It need not exist; its parent then counts.
pub(super) fn is_in_a_mount(path: &Path) -> bool {
    let Ok(path) = absolute_by_parent(path) else {
        return false;
    };
    let path = path.canonicalize().unwrap_or(path);
    // The deepest mount on the way is the one that has it.
    let mount = path.ancestors().find_map(mounted_at);
    mount.is_some_and(|mount| mount.is_ours())
}
