//! Which templates there are, and when one is made.

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::template::Template;
use crate::{Result, SandboxError, SandboxSpec, Shape};

/// How many templates are kept. Each takes the memory that a guest has used when it has booted, some 50 MiB.
const KEPT: usize = 4;

/// How much room the folder's file system must have for another one, in bytes.
const ROOM: u64 = 256 << 20;

/// How often a template may fail, in being made or in being gone on from, before it is given up.
const TRIES: u32 = 3;

/// The templates of a host, in a folder that does not outlive the host's boot (a VM snapshot goes on only on the
/// processor that it was taken on). Clones are the same.
///
/// A template is named by what it was made of: number of vCPUs, memory and devices, and the very files of VMM, kernel and
/// initramfs, so that one of another build is never found. It is written under another name and renamed, so that one that
/// is found is whole.
#[derive(Clone, Debug)]
pub struct Templates {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// For the sockets of the microVMs that templates are made of.
    runtime: PathBuf,
    /// Whether this host is a virtual machine itself.
    nested: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    making: bool,
    /// How many were made.
    made: u64,
    last_used: HashMap<String, Instant>,
    failures: HashMap<String, u32>,
}

impl State {
    fn failed(&mut self, name: &str) {
        *self.failures.entry(name.to_owned()).or_default() += 1;
    }
}

impl Templates {
    /// The templates in `folder`. What another process left half made there is removed; those of microVMs in `runtime`
    /// are its owner's to end.
    pub fn open(folder: PathBuf, runtime: PathBuf) -> io::Result<Templates> {
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if is_unfinished(&entry.path()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let shared = Shared {
            folder,
            runtime,
            nested: is_virtual_machine(),
            state: Mutex::default(),
        };
        Ok(Templates {
            shared: Arc::new(shared),
        })
    }

    /// A template for what `spec` describes.
    pub fn find(&self, spec: &SandboxSpec) -> Option<Template> {
        let name = name(spec, &spec.shape().ok()?).ok()?;
        let template = self.template(&name);
        let found = template.state().exists();
        if found {
            self.state().last_used.insert(name, Instant::now());
        }
        found.then_some(template)
    }

    /// How many were made since these were opened.
    pub fn made(&self) -> u64 {
        self.state().made
    }

    /// Removes a template that no microVM could go on from.
    pub fn discard(&self, template: &Template) {
        let name = template.folder().file_name().unwrap_or_default();
        self.state().failed(&name.to_string_lossy());
        if let Err(error) = remove(template.folder()) {
            tracing::warn!(template = %template.folder().display(), %error, "a useless template stays");
        }
    }

    /// Makes a template for what `spec` describes, in the background, unless there is one or another one is being made.
    /// Whatever comes of it, nobody waits for it.
    pub fn prepare(&self, spec: &SandboxSpec) {
        let shape = match spec.shape() {
            Ok(shape) => shape,
            Err(error) => return tracing::warn!(%error, "a template is not made"),
        };
        let name = match name(spec, &shape) {
            Ok(name) => name,
            Err(error) => return tracing::warn!(%error, "a template is not made"),
        };
        if !self.begin(&name) {
            return;
        }
        let (templates, spec) = (self.clone(), spec.clone());
        tokio::spawn(async move {
            let began = Instant::now();
            let made = templates.make(&name, &spec, &shape).await;
            let mut state = templates.state();
            state.making = false;
            match made {
                Ok(()) => {
                    state.made += 1;
                    tracing::info!(name, ?shape, took = ?began.elapsed(), "a template was made");
                }
                Err(error) => {
                    state.failed(&name);
                    tracing::warn!(name, ?shape, %error, "a template cannot be made");
                }
            }
        });
    }

    /// Whether this template is to be made now, by the caller.
    fn begin(&self, name: &str) -> bool {
        let mut state = self.state();
        let given_up = state
            .failures
            .get(name)
            .is_some_and(|failures| *failures >= TRIES);
        if state.making || given_up || self.template(name).state().exists() {
            return false;
        }
        state.making = true;
        true
    }

    async fn make(&self, name: &str, spec: &SandboxSpec, shape: &Shape) -> Result<()> {
        self.make_room(name)?;
        let new = self.template(&format!("{UNFINISHED}{name}"));
        let runtime = self.shared.runtime.join(format!("{UNFINISHED}{name}"));
        fs::create_dir(new.folder()).map_err(SandboxError::file("make the folder", new.folder()))?;
        let made = self.fill(&new, runtime.clone(), spec, shape).await;
        let made = made.and_then(|()| {
            let template = self.template(name);
            fs::rename(new.folder(), template.folder()).map_err(SandboxError::file("make", template.folder()))
        });
        for left in [new.folder(), &runtime] {
            if let Err(error) = remove(left) {
                tracing::warn!(folder = %left.display(), %error, "what a template was made in stays");
            }
        }
        made
    }

    async fn fill(&self, new: &Template, runtime: PathBuf, like: &SandboxSpec, shape: &Shape) -> Result<()> {
        let work = new.folder().join("work");
        fs::create_dir(&work).map_err(SandboxError::file("make the folder", &work))?;
        let spec = SandboxSpec {
            id: "template".into(),
            runtime,
            folder: work.clone(),
            layers: Vec::new(),
            folders: Vec::new(),
            disk: shape.disk.map(|len| empty_disk(&work, len)).transpose()?,
            template: None,
            ..like.clone()
        };
        new.make(&spec, shape).await?;
        fs::remove_dir_all(&work).map_err(SandboxError::file("remove", &work))
    }

    /// Makes sure that there is room for one more, and that no more are kept than should be.
    fn make_room(&self, name: &str) -> Result<()> {
        let folder = &self.shared.folder;
        let failed = |action, path: &Path, source: io::Error| SandboxError::File {
            action,
            path: path.to_owned(),
            source,
        };
        let mut others = Vec::new();
        for entry in fs::read_dir(folder).map_err(|error| failed("read the folder", folder, error))? {
            let path = entry
                .map_err(|error| failed("read the folder", folder, error))?
                .path();
            let other = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if is_unfinished(&path) {
                remove(&path).map_err(|error| failed("remove", &path, error))?;
            } else if other != name {
                others.push(other);
            }
        }
        let state = self.state();
        // Those that were not used since this process began come first.
        others.sort_by_key(|other| state.last_used.get(other).copied());
        drop(state);
        for other in others.iter().take((others.len() + 1).saturating_sub(KEPT)) {
            let path = folder.join(other);
            remove(&path).map_err(|error| failed("remove", &path, error))?;
        }
        let room = rustix::fs::statvfs(folder).map_err(|error| failed("look at", folder, error.into()))?;
        if room.f_bavail.saturating_mul(room.f_frsize) < ROOM {
            return Err(failed(
                "make a template in",
                folder,
                io::ErrorKind::StorageFull.into(),
            ));
        }
        Ok(())
    }

    fn template(&self, name: &str) -> Template {
        Template::new(self.shared.folder.join(name), self.shared.nested)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the name of a template that is being made begins with.
const UNFINISHED: &str = "new-";

fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes())
}

/// Whether the processor says that there is a hypervisor beneath.
fn is_virtual_machine() -> bool {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = processors.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_ascii_whitespace().any(|flag| flag == "hypervisor"))
}

/// What the guest's kernel looks for on its disk it does not find, and it looks again when the disk is mounted.
fn empty_disk(folder: &Path, len: u64) -> Result<PathBuf> {
    let disk = folder.join("disk");
    fs::File::create(&disk)
        .and_then(|file| file.set_len(len))
        .map_err(SandboxError::file("make the disk", &disk))?;
    Ok(disk)
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Names a template by its shape and the files it is made of. A file that was replaced or changed has another inode or
/// time.
fn name(spec: &SandboxSpec, shape: &Shape) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    shape.hash(&mut hasher);
    for file in [&spec.vmm, &spec.kernel, &spec.initramfs] {
        let metadata = fs::metadata(file).map_err(SandboxError::file("look at", file))?;
        let identity = (
            metadata.dev(),
            metadata.ino(),
            metadata.size(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        );
        identity.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Host {
        folder: tempfile::TempDir,
    }

    impl Host {
        fn new() -> Host {
            let folder = tempfile::tempdir().unwrap();
            for name in ["vmlinux", "initramfs.cpio", "layer"] {
                fs::write(folder.path().join(name), "x").unwrap();
            }
            fs::create_dir(folder.path().join("vm")).unwrap();
            Host { folder }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn templates(&self) -> Templates {
            Templates::open(self.path("templates"), self.path("vm")).unwrap()
        }

        fn spec(&self, vmm: &str) -> SandboxSpec {
            SandboxSpec {
                id: "test".into(),
                vmm: vmm.into(),
                kernel: self.path("vmlinux"),
                initramfs: self.path("initramfs.cpio"),
                runtime: self.path("vm/test"),
                folder: self.path(""),
                cgroup: None,
                vcpus: 1,
                memory_mib: 64,
                layers: vec![self.path("layer")],
                disk: None,
                folders: Vec::new(),
                nics: 0,
                boot_timeout: Duration::from_secs(30),
                template: None,
            }
        }

        /// A folder as a template that was made has it.
        fn put(&self, templates: &Templates, spec: &SandboxSpec) -> Template {
            let template = templates.template(&name(spec, &spec.shape().unwrap()).unwrap());
            fs::create_dir(template.folder()).unwrap();
            fs::write(template.state(), "").unwrap();
            fs::write(template.memory(), "").unwrap();
            template
        }

        fn entries(&self, folder: &str) -> usize {
            fs::read_dir(self.path(folder)).unwrap().count()
        }
    }

    #[test]
    fn a_template_is_found_for_its_shape_and_its_files_alone() {
        let host = Host::new();
        let templates = host.templates();
        let spec = host.spec("/bin/false");
        assert_eq!(templates.find(&spec), None);
        let template = host.put(&templates, &spec);
        assert_eq!(templates.find(&spec), Some(template.clone()));
        let another = |change: fn(&mut SandboxSpec)| {
            let mut other = spec.clone();
            change(&mut other);
            templates.find(&other)
        };
        assert_eq!(another(|spec| spec.id = "other".into()), Some(template.clone()));
        assert_eq!(
            another(|spec| spec.layers.push("/x".into())),
            Some(template.clone())
        );
        assert_eq!(another(|spec| spec.vcpus = 2), None);
        assert_eq!(another(|spec| spec.memory_mib = 65), None);
        assert_eq!(another(|spec| spec.layers.clear()), None);
        assert_eq!(another(|spec| spec.disk = Some("/bin/true".into())), None);
        assert_eq!(another(|spec| spec.vmm = "/bin/true".into()), None);
        fs::write(&spec.kernel, "another kernel").unwrap();
        assert_eq!(templates.find(&spec), None, "the kernel was replaced");
    }

    #[test]
    fn a_discarded_template_is_gone_and_what_was_half_made_goes_at_the_next_start() {
        let host = Host::new();
        let templates = host.templates();
        let spec = host.spec("/bin/false");
        let template = host.put(&templates, &spec);
        templates.discard(&template);
        templates.discard(&template);
        assert_eq!(templates.find(&spec), None);
        let kept = host.put(&templates, &spec);
        fs::create_dir_all(host.path("templates/new-1234/work")).unwrap();
        assert_eq!(host.templates().find(&spec), Some(kept));
        assert_eq!(host.entries("templates"), 1);
    }

    #[test]
    fn few_are_kept_and_those_that_were_used_last() {
        let host = Host::new();
        let templates = host.templates();
        let spec = |memory_mib| SandboxSpec {
            memory_mib,
            ..host.spec("/bin/false")
        };
        for memory_mib in 0..6 {
            host.put(&templates, &spec(memory_mib));
        }
        for memory_mib in [2, 4, 0] {
            templates.find(&spec(memory_mib)).unwrap();
        }
        templates.make_room("new").unwrap();
        assert_eq!(host.entries("templates"), KEPT - 1);
        for memory_mib in [2, 4, 0] {
            assert!(templates.find(&spec(memory_mib)).is_some(), "{memory_mib}");
        }
    }

    #[tokio::test]
    async fn a_template_that_cannot_be_made_leaves_nothing_and_is_tried_few_times() {
        let host = Host::new();
        let templates = host.templates();
        let spec = host.spec("/bin/false");
        for _ in 0..TRIES {
            templates.prepare(&spec);
            assert!(templates.state().making);
            let shared = templates.clone();
            let made = async {
                while shared.state().making {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), made).await.unwrap();
            assert_eq!((host.entries("templates"), host.entries("vm")), (0, 0));
        }
        templates.prepare(&spec);
        assert!(!templates.state().making, "not again");
        assert_eq!(templates.find(&spec), None);
    }

    #[tokio::test]
    async fn one_is_made_at_a_time_and_none_that_is_there() {
        let host = Host::new();
        let templates = host.templates();
        let spec = host.spec("/bin/false");
        assert!(templates.begin("a"));
        assert!(!templates.begin("b"), "another one is being made");
        templates.state().making = false;
        host.put(&templates, &spec);
        templates.prepare(&spec);
        assert!(!templates.state().making);
    }
}
