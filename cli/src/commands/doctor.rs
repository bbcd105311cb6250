//! `hull doctor`: what this host offers, what is made of it and why, and what would help.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use bollard_stubs::models::SystemVersion;
use clap::Args;
use machine::{HostReport, Placement, Virtiofsd};

use super::print;
use crate::api::{Address, Client, Directories, Target};
use crate::failure::{CommandResult, Failure};
use crate::format::binary_size;
use crate::installation;

#[derive(Debug, Args)]
#[command(override_usage = "hull doctor")]
pub(crate) struct Arguments {}

/// What was found; gathered first, so that the text is a function of it.
#[derive(Debug)]
struct Findings {
    host: HostReport,
    kernel: String,
    cpu_model: String,
    virtualization: Option<&'static str>,
    hypervisor: bool,
    cgroups: &'static str,
    address: Address,
    /// The version of the daemon that answers there.
    daemon: Option<String>,
    lib: PathBuf,
    /// What of hull's own parts is needed here and not there.
    missing: Vec<PathBuf>,
}

pub(crate) async fn execute(client: &Client, _arguments: Arguments) -> CommandResult {
    let findings = Findings::gather(client).await?;
    print(&findings.text())?;
    if findings.obstacles().is_empty() {
        Ok(())
    } else {
        Err(Failure::silent(1))
    }
}

impl Findings {
    async fn gather(client: &Client) -> anyhow::Result<Self> {
        let host = HostReport::gather(&Directories::of_this_user().runtime);
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flags = cpuinfo_field(&cpuinfo, "flags");
        let has = |flag: &str| flags.split(' ').any(|known| known == flag);
        let lib = installation::lib_dir()?;
        let daemon: Option<SystemVersion> = client.without_start().get(Target::new(&["version"])).await.ok();
        let missing = parts(&host.placement()).iter().map(|part| lib.join(part));
        Ok(Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            cpu_model: cpuinfo_field(&cpuinfo, "model name").to_owned(),
            virtualization: [("vmx", "VT-x"), ("svm", "SVM")]
                .into_iter()
                .find_map(|(flag, name)| has(flag).then_some(name)),
            hypervisor: has("hypervisor"),
            cgroups: cgroup_version(),
            address: client.endpoint().address.clone(),
            daemon: daemon.map(|version| version.version.unwrap_or_default()),
            missing: missing.filter(|path| !path.exists()).collect(),
            lib,
            host,
        })
    }

    /// Why no container can run here. A daemon that answers has proved the contrary.
    fn obstacles(&self) -> Vec<String> {
        if self.daemon.is_some() {
            return Vec::new();
        }
        let mut obstacles: Vec<String> = self
            .missing
            .iter()
            .map(|path| {
                format!(
                    "{} is missing: build it with `make build`, or install hull again",
                    path.display()
                )
            })
            .collect();
        if matches!(self.host.placement(), Placement::Machine { .. }) {
            if self.host.qemu.is_none() {
                obstacles.push("the helper VM needs QEMU, which is not installed".to_owned());
            }
            if self.host.virtiofsd.is_none() {
                obstacles.push("the helper VM needs virtiofsd, which is not installed".to_owned());
            }
        }
        obstacles
    }

    fn text(&self) -> String {
        let mut text = String::from("Host\n");
        for (name, value) in self.host_lines() {
            line(&mut text, name, &value);
        }
        text.push_str("hull\n");
        line(&mut text, "programs", &self.lib.display().to_string());
        let daemon = match &self.daemon {
            Some(version) => format!("hulld {version} answers"),
            None => "nobody answers; the first command starts it".to_owned(),
        };
        line(&mut text, "socket", &format!("{} ({daemon})", self.address));
        text.push_str("Choice\n");
        match self.host.placement() {
            Placement::Host => line(&mut text, "microVMs", "on this host's KVM"),
            Placement::Machine { accelerator, why } => {
                line(
                    &mut text,
                    "microVMs",
                    &format!("in the helper VM, on {accelerator}"),
                );
                line(&mut text, "because", &why);
                line(&mut text, "network", super::machine::NETWORK);
            }
        }
        list(&mut text, "Faster or better", &self.host.advice());
        list(&mut text, "Containers cannot run", &self.obstacles());
        if self.obstacles().is_empty() {
            text.push_str("Containers can run.\n");
        }
        text
    }

    fn host_lines(&self) -> Vec<(&'static str, String)> {
        let host = &self.host;
        let virtualization = match (self.virtualization, self.hypervisor) {
            (Some(name), true) => format!("{name}, in a virtual machine (nested virtualization)"),
            (Some(name), false) => name.to_owned(),
            (None, true) => "none: a virtual machine without nested virtualization".to_owned(),
            (None, false) => "none: not there, or turned off in the firmware".to_owned(),
        };
        let memory = i64::try_from(host.memory_mib << 20).unwrap_or(i64::MAX);
        let path =
            |path: Option<&Path>| path.map_or("not installed".to_owned(), |path| path.display().to_string());
        let virtiofsd = match &host.virtiofsd {
            Some(Virtiofsd::Rust(path) | Virtiofsd::Qemu(path)) => Some(path.as_path()),
            None => None,
        };
        vec![
            ("kernel", self.kernel.clone()),
            ("processor", format!("{} x {}", host.cpus, self.cpu_model)),
            ("virtualization", virtualization),
            ("KVM", host.kvm.to_string()),
            ("nesting", if host.nested { "on" } else { "off" }.to_owned()),
            ("memory", binary_size(memory)),
            ("cgroups", self.cgroups.to_owned()),
            ("user", if host.root { "root" } else { "not root" }.to_owned()),
            ("QEMU", path(host.qemu.as_deref())),
            ("virtiofsd", path(virtiofsd)),
        ]
    }
}

/// hull's own parts that a placement needs.
fn parts(placement: &Placement) -> &'static [&'static str] {
    match placement {
        Placement::Host => &["hulld", "hull-vmm", "vmlinux", "initramfs.cpio"],
        Placement::Machine { .. } => &["hull-machine", "machine/vmlinuz", "machine/initrd.img"],
    }
}

fn cpuinfo_field<'a>(cpuinfo: &'a str, name: &str) -> &'a str {
    let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    fields
        .find(|(field, _)| field.trim() == name)
        .map_or("", |(_, value)| value.trim())
}

fn cgroup_version() -> &'static str {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        "version 2"
    } else if Path::new("/sys/fs/cgroup/memory").exists() {
        "version 1"
    } else {
        "not mounted"
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  {name:15} {value}");
}

fn list(text: &mut String, heading: &str, entries: &[String]) {
    if entries.is_empty() {
        return;
    }
    let _ = writeln!(text, "{heading}");
    for entry in entries {
        let _ = writeln!(text, "  - {entry}");
    }
}
