//! The options that describe a container, for `run` and `create`.

use std::collections::HashMap;
use std::env;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use bollard_stubs::models::{ContainerCreateBody, ContainerCreateResponse, HostConfig};
use clap::{Args, ValueEnum};

use super::health_options::HealthOptions;
use super::limit_options::{LimitOptions, ResourceOptions, throttles};
use super::log_options::LogOptions;
use super::mount::MountOption;
use super::namespace_options::NamespaceOptions;
use super::network_options::NetworkOptions;
use super::pull::{Pull, PullPolicy};
use super::restart_policy::RestartPolicy;
use super::security_options::SecurityOptions;
use super::volumes::{Volumes, tmpfs};
use super::{environment, pairs, print};
use crate::api::{ApiError, Client, Target};
use crate::credentials::RemoteName;
use crate::failure::{Failure, OWN_FAILURE, complain};
use crate::progress::{Show, Stream};
use crate::terminal;

/// What a container is to be.
#[derive(Debug, Args)]
#[command(disable_help_flag = true, next_display_order = None)]
pub(crate) struct ContainerOptions {
    #[command(flatten)]
    health: HealthOptions,

    #[command(flatten)]
    limits: LimitOptions,

    #[command(flatten)]
    log: LogOptions,

    #[command(flatten)]
    namespaces: NamespaceOptions,

    #[command(flatten)]
    network: NetworkOptions,

    #[command(flatten)]
    resources: ResourceOptions,

    #[command(flatten)]
    security: SecurityOptions,

    /// Add an annotation to the container (passed through to its description)
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,

    /// Attach to STDIN, STDOUT or STDERR
    #[arg(
        short,
        long,
        value_name = "STREAM",
        ignore_case = true,
        hide_possible_values = true
    )]
    attach: Vec<StandardStream>,

    /// Write the container ID to the file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,

    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,

    /// Set environment variables
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,

    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long)]
    init: bool,

    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,

    /// Set meta data on a container
    #[arg(short, long, value_name = "NAME=VALUE")]
    label: Vec<String>,

    /// Read in a line delimited file of labels
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,

    /// Attach a filesystem mount to the container
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<MountOption>,

    /// Assign a name to the container
    #[arg(long)]
    name: Option<String>,

    /// Run the image for this platform, such as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,

    /// Pull image before running ("always", "missing", "never")
    #[arg(long, value_name = "POLICY", default_value = "missing")]
    pull: PullPolicy,

    /// Suppress the pull output
    #[arg(short, long)]
    quiet: bool,

    /// Mount the container's root filesystem as read only
    #[arg(long)]
    read_only: bool,

    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "POLICY")]
    restart: Option<RestartPolicy>,

    /// Automatically remove the container when it exits
    #[arg(long)]
    pub(super) rm: bool,

    /// Signal to stop the container
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,

    /// Timeout (in seconds) to stop a container
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,

    /// Mount a tmpfs directory
    #[arg(long, value_name = "PATH[:OPTIONS]")]
    tmpfs: Vec<String>,

    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub(super) tty: bool,

    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long)]
    user: Option<String>,

    /// Bind mount a volume
    #[arg(short, long, value_name = "SOURCE:TARGET[:ro]")]
    volume: Vec<String>,

    /// Mount volumes from the specified container(s)
    #[arg(long, value_name = "CONTAINER")]
    volumes_from: Vec<String>,

    /// Working directory inside the container
    #[arg(short, long, value_name = "DIRECTORY")]
    workdir: Option<String>,

    /// Image, then the command to run in it and its arguments
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "COMMAND"])]
    image_and_command: Vec<String>,
}

/// A standard stream of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StandardStream {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Which streams the client takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttachedStreams {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl ContainerOptions {
    /// What `-a` asks for, else output and error, and the input with `-i`. `-d` attaches nothing.
    pub(super) fn streams(&self, detach: bool) -> anyhow::Result<AttachedStreams> {
        if detach && !self.attach.is_empty() {
            bail!("conflicting options: cannot specify both --attach and --detach");
        }
        let named = |stream| self.attach.contains(&stream);
        let all = self.attach.is_empty() && !detach;
        Ok(AttachedStreams {
            stdin: named(StandardStream::Stdin) || all && self.interactive,
            stdout: named(StandardStream::Stdout) || all,
            stderr: named(StandardStream::Stderr) || all,
        })
    }

    /// Asks the daemon for the container and writes its ID to the `--cidfile`; the ID.
    pub(super) async fn create(&self, client: &Client, streams: AttachedStreams) -> Result<String, Failure> {
        let own_failure = |error: anyhow::Error| Failure::new(OWN_FAILURE, error);
        if self.rm && self.restart.as_ref().is_some_and(|policy| !policy.is_none()) {
            let conflict = "conflicting options: cannot specify both --restart and --rm";
            return Err(own_failure(anyhow::anyhow!(conflict)));
        }
        let cidfile = self.open_cidfile().map_err(own_failure)?;
        let body = self.body(streams).map_err(own_failure)?;
        let response = match self.create_or_pull(client, &body).await {
            Ok(response) => response,
            Err(error) => {
                if let Some((path, _)) = cidfile {
                    // It was made for an ID that there is none of.
                    drop(std::fs::remove_file(path));
                }
                return Err(own_failure(anyhow::anyhow!("hull: {error:#}")));
            }
        };
        for warning in &response.warnings {
            complain(format_args!("WARNING: {warning}"));
        }
        if let Some((path, mut file)) = cidfile {
            file.write_all(response.id.as_bytes())
                .with_context(|| format!("failed to write the container ID to the file {}", path.display()))
                .map_err(own_failure)?;
        }
        Ok(response.id)
    }

    /// Asks the daemon for the container, and for its image where that is missing or always wanted.
    async fn create_or_pull(
        &self,
        client: &Client,
        body: &ContainerCreateBody,
    ) -> anyhow::Result<ContainerCreateResponse> {
        let target = Target::new(&["containers", "create"])
            .option("name", self.name.as_deref())
            .option("platform", self.platform.as_deref());
        if self.pull == PullPolicy::Always {
            self.pull_image(client).await?;
        }
        let created: Result<ContainerCreateResponse, ApiError> = client.post(target.clone(), body).await;
        match created {
            Err(error) if self.pull == PullPolicy::Missing && is_missing_image(&error) => {
                if !self.quiet {
                    let image = RemoteName::with_tag(self.image_and_command().0);
                    complain(format_args!("Unable to find image '{image}' locally"));
                }
                self.pull_image(client).await?;
                Ok(client.post(target, body).await?)
            }
            created => Ok(created?),
        }
    }

    async fn pull_image(&self, client: &Client) -> anyhow::Result<()> {
        let (image, _) = self.image_and_command();
        Pull {
            image,
            platform: self.platform.as_deref(),
            all_tags: false,
            show: if self.quiet {
                Show::Nothing
            } else {
                Show::All(Stream::Error)
            },
        }
        .run(client)
        .await
    }

    fn open_cidfile(&self) -> anyhow::Result<Option<(PathBuf, File)>> {
        let Some(path) = &self.cidfile else {
            return Ok(None);
        };
        let file = File::create_new(path).with_context(|| {
            format!(
                "container ID file {} cannot be created; make sure that no other container uses it, or delete it",
                path.display()
            )
        })?;
        Ok(Some((path.clone(), file)))
    }

    fn image_and_command(&self) -> (&str, &[String]) {
        match &self.image_and_command[..] {
            [image, command @ ..] => (image, command),
            [] => ("", &[]),
        }
    }

    fn body(&self, streams: AttachedStreams) -> anyhow::Result<ContainerCreateBody> {
        let (image, command) = self.image_and_command();
        let volumes = if self.volume.is_empty() {
            Volumes::default()
        } else {
            Volumes::parse(&self.volume, &env::current_dir()?)?
        };
        let body = ContainerCreateBody {
            hostname: self.network.hostname.clone(),
            domainname: self.network.domainname.clone(),
            exposed_ports: list(self.network.exposed()),
            healthcheck: self.health.config(),
            user: self.user.clone(),
            attach_stdin: Some(streams.stdin),
            attach_stdout: Some(streams.stdout),
            attach_stderr: Some(streams.stderr),
            tty: Some(self.tty),
            open_stdin: Some(self.interactive),
            // Without it a container that nobody is attached to could be given input later.
            stdin_once: Some(self.interactive && streams.stdin),
            env: Some(environment::collect(&self.env_file, self.env.clone())?),
            cmd: (!command.is_empty()).then(|| command.to_vec()),
            image: Some(image.to_owned()),
            volumes: (!volumes.anonymous.is_empty()).then_some(volumes.anonymous),
            working_dir: self.workdir.clone(),
            // An empty entrypoint takes the image's away.
            entrypoint: self.entrypoint.clone().map(|entrypoint| vec![entrypoint]),
            labels: Some(pairs(&environment::collect_labels(
                &self.label_file,
                self.label.clone(),
            )?)),
            stop_signal: self.stop_signal.clone(),
            stop_timeout: self.stop_timeout,
            host_config: Some(self.host_config(volumes.binds)?),
            networking_config: self.network.endpoints()?,
            ..Default::default()
        };
        Ok(body)
    }

    fn host_config(&self, binds: Vec<String>) -> anyhow::Result<HostConfig> {
        let window = if self.tty { terminal::window_size() } else { None };
        let (resources, limits) = (&self.resources, &self.limits);
        let mut host = HostConfig {
            annotations: (!self.annotation.is_empty()).then(|| pairs(&self.annotation)),
            auto_remove: Some(self.rm),
            binds: list(binds),
            blkio_weight: limits.blkio_weight,
            blkio_device_read_bps: throttles(&limits.device_read_bps),
            blkio_device_read_iops: throttles(&limits.device_read_iops),
            blkio_device_write_bps: throttles(&limits.device_write_bps),
            blkio_device_write_iops: throttles(&limits.device_write_iops),
            console_size: window.map(|size| vec![size.rows.into(), size.columns.into()]),
            container_id_file: self.cidfile.as_ref().map(|path| path.display().to_string()),
            cpu_period: resources.cpu_period,
            cpu_quota: resources.cpu_quota,
            cpu_shares: resources.cpu_shares,
            cpuset_cpus: resources.cpuset_cpus.clone(),
            cpuset_mems: resources.cpuset_mems.clone(),
            init: self.init.then_some(true),
            log_config: self.log.config()?,
            memory: resources.memory,
            memory_reservation: resources.memory_reservation,
            memory_swap: resources.memory_swap,
            mounts: list(self.mount.iter().map(|mount| mount.0.clone()).collect()),
            nano_cpus: resources.cpus,
            oom_kill_disable: limits.oom_kill_disable.then_some(true),
            oom_score_adj: limits.oom_score_adj,
            pids_limit: resources.pids_limit,
            readonly_rootfs: Some(self.read_only),
            restart_policy: self.restart.clone().map(Into::into),
            shm_size: limits.shm_size,
            storage_opt: storage_options(&limits.storage_opt)?,
            sysctls: Some(limits.sysctls()),
            tmpfs: (!self.tmpfs.is_empty()).then(|| tmpfs(&self.tmpfs)),
            ulimits: list(limits.ulimits()),
            volumes_from: list(self.volumes_from.clone()),
            ..Default::default()
        };
        self.namespaces.apply(&mut host);
        self.network.apply(&mut host);
        self.security.apply(&mut host)?;
        Ok(host)
    }
}

/// Options of the writable disk, which all have a value.
fn storage_options(options: &[String]) -> anyhow::Result<Option<HashMap<String, String>>> {
    if options.iter().any(|option| !option.contains('=')) {
        bail!("invalid storage option");
    }
    Ok((!options.is_empty()).then(|| pairs(options)))
}

/// A list that is left out while it is empty.
fn list<T>(values: Vec<T>) -> Option<Vec<T>> {
    (!values.is_empty()).then_some(values)
}

/// `hull: MESSAGE` and the exit code that Docker gives a container that did not start: 127 when
/// there is no such command, 126 when it cannot be executed.
pub(super) fn start_failure(error: &ApiError) -> Failure {
    let message = error.to_string();
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    let code = if says(&["executable file not found", "no such file or directory"]) {
        127
    } else if says(&["permission denied", "is a directory"]) {
        126
    } else {
        OWN_FAILURE
    };
    Failure::new(code, anyhow::anyhow!("hull: {message}"))
}

/// Prints a created container's ID.
pub(super) fn print_id(id: &str) -> Result<(), Failure> {
    Ok(print(&format!("{id}\n"))?)
}

/// Whether the container could not be made for want of its image, and not of something else.
fn is_missing_image(error: &ApiError) -> bool {
    let about_image =
        |message: &str| message.starts_with("No such image") || message.starts_with("image with reference");
    matches!(error, ApiError::Refused { message, .. } if error.is_not_found() && about_image(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::{Value, json};

    #[derive(Debug, Parser)]
    #[command(disable_help_flag = true)]
    struct Line {
        #[command(flatten)]
        options: ContainerOptions,
    }

    fn body(line: &str) -> Value {
        let line = Line::try_parse_from(["run"].into_iter().chain(line.split(' '))).unwrap();
        let streams = line.options.streams(false).unwrap();
        serde_json::to_value(line.options.body(streams).unwrap()).unwrap()
    }

    #[test]
    fn every_option_reaches_the_body() {
        let body = body(
            "-it --rm --name n -e A=1 -w /w -u 1:2 --entrypoint /e -m 64m --cpus 1.5 -h host --read-only \
             --tmpfs /t:size=1m -v /a:/b:ro -v /c --volumes-from d:ro --mount type=volume,src=v,dst=/v --init --cap-add NET_ADMIN --cap-drop ALL \
             --stop-signal SIGINT --stop-timeout 3 -l k=v --health-cmd x --health-interval 1m30s --health-retries 4 \
             --privileged --device /dev/fuse:r --security-opt no-new-privileges --group-add 7 --dns 1.1.1.1 \
             --add-host=a=1.2.3.4 --expose 80 -p 127.0.0.1:8080:81 -P --link db \
             --network name=web,ip=10.0.0.5 --network-alias www --network back --ulimit nofile=1:2 --sysctl a.b=c --shm-size 1m \
             --pids-limit -1 --cpuset-cpus 0-1 --cpuset-mems 0 --oom-kill-disable --annotation a=b --storage-opt size=1G \
             --log-driver local --log-opt max-size=1m --log-opt compress --ipc none --pid private --uts host --userns host \
             --cgroupns host --isolation default --runtime hull --cgroup-parent /p --blkio-weight 300 \
             --memory-reservation 6m --memory-swap -1 --device-write-iops /dev/vda:7 image cmd -x --rm",
        );
        assert_eq!(body["Cmd"], json!(["cmd", "-x", "--rm"]));
        for (pointer, expected) in [
            ("/Image", json!("image")),
            ("/Hostname", json!("host")),
            ("/User", json!("1:2")),
            ("/Tty", json!(true)),
            ("/OpenStdin", json!(true)),
            ("/StdinOnce", json!(true)),
            ("/AttachStdin", json!(true)),
            ("/Env", json!(["A=1"])),
            ("/Volumes", json!({"/c": {}})),
            ("/WorkingDir", json!("/w")),
            ("/Entrypoint", json!(["/e"])),
            ("/Labels", json!({"k": "v"})),
            ("/StopSignal", json!("SIGINT")),
            ("/StopTimeout", json!(3)),
            ("/Healthcheck/Test", json!(["CMD-SHELL", "x"])),
            ("/Healthcheck/Interval", json!(90_000_000_000_i64)),
            ("/Healthcheck/Retries", json!(4)),
            ("/ExposedPorts", json!({"80/tcp": {}, "81/tcp": {}})),
            (
                "/NetworkingConfig/EndpointsConfig",
                json!({
                    "web": {"IPAMConfig": {"IPv4Address": "10.0.0.5"}, "Aliases": ["www"], "Links": ["db"]}, "back": {},
                }),
            ),
            ("/HostConfig/Privileged", json!(true)),
            ("/HostConfig/Devices/0/CgroupPermissions", json!("r")),
            ("/HostConfig/SecurityOpt", json!(["no-new-privileges"])),
            ("/HostConfig/GroupAdd", json!(["7"])),
            ("/HostConfig/Dns", json!(["1.1.1.1"])),
            ("/HostConfig/ExtraHosts", json!(["a:1.2.3.4"])),
            ("/HostConfig/NetworkMode", json!("web")),
            ("/HostConfig/Links", json!(["db"])),
            (
                "/HostConfig/PortBindings",
                json!({"81/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}),
            ),
            ("/HostConfig/PublishAllPorts", json!(true)),
            (
                "/HostConfig/Ulimits/0",
                json!({"Name": "nofile", "Soft": 1, "Hard": 2}),
            ),
            ("/HostConfig/Sysctls", json!({"a.b": "c"})),
            ("/HostConfig/ShmSize", json!(1 << 20)),
            ("/HostConfig/PidsLimit", json!(-1)),
            ("/HostConfig/CpusetCpus", json!("0-1")),
            ("/HostConfig/CpusetMems", json!("0")),
            ("/HostConfig/OomKillDisable", json!(true)),
            ("/HostConfig/Annotations", json!({"a": "b"})),
            ("/HostConfig/StorageOpt", json!({"size": "1G"})),
            (
                "/HostConfig/LogConfig",
                json!({"Type": "local", "Config": {"max-size": "1m", "compress": ""}}),
            ),
            ("/HostConfig/IpcMode", json!("none")),
            ("/HostConfig/PidMode", json!("private")),
            ("/HostConfig/UTSMode", json!("host")),
            ("/HostConfig/UsernsMode", json!("host")),
            ("/HostConfig/CgroupnsMode", json!("host")),
            ("/HostConfig/Isolation", json!("default")),
            ("/HostConfig/Runtime", json!("hull")),
            ("/HostConfig/CgroupParent", json!("/p")),
            ("/HostConfig/BlkioWeight", json!(300)),
            ("/HostConfig/MemoryReservation", json!(6 << 20)),
            ("/HostConfig/MemorySwap", json!(-1)),
            ("/HostConfig/BlkioDeviceWriteIOps/0/Rate", json!(7)),
            ("/HostConfig/AutoRemove", json!(true)),
            ("/HostConfig/Binds", json!(["/a:/b:ro"])),
            ("/HostConfig/CapAdd", json!(["NET_ADMIN"])),
            ("/HostConfig/CapDrop", json!(["ALL"])),
            ("/HostConfig/Init", json!(true)),
            ("/HostConfig/Memory", json!(64 << 20)),
            ("/HostConfig/NanoCpus", json!(1_500_000_000)),
            ("/HostConfig/ReadonlyRootfs", json!(true)),
            ("/HostConfig/VolumesFrom", json!(["d:ro"])),
            ("/HostConfig/Mounts/0/Source", json!("v")),
            ("/HostConfig/Tmpfs", json!({"/t": "size=1m"})),
        ] {
            assert_eq!(body.pointer(pointer), Some(&expected), "{pointer}");
        }
    }

    #[test]
    fn options_behind_the_image_belong_to_the_command() {
        assert_eq!(body("image -it")["Cmd"], json!(["-it"]));
        assert_eq!(body("image -- x")["Cmd"], json!(["--", "x"]));
        assert_eq!(body("-- image x")["Cmd"], json!(["x"]));
        assert_eq!(body("image")["Cmd"], json!(null));
    }

    #[test]
    fn attach_chooses_streams_and_excludes_detach() {
        let options = |line: &str| {
            Line::try_parse_from(["run"].into_iter().chain(line.split(' ')))
                .unwrap()
                .options
        };
        let only_error = options("-a stderr image").streams(false).unwrap();
        assert_eq!(
            (only_error.stdin, only_error.stdout, only_error.stderr),
            (false, false, true)
        );
        let detached = options("-i image").streams(true).unwrap();
        assert_eq!(
            (detached.stdin, detached.stdout, detached.stderr),
            (false, false, false)
        );
        assert!(options("-a STDOUT image").streams(true).is_err());
    }

    #[test]
    fn start_failures_have_dockers_exit_codes() {
        for (message, code) in [
            ("exec: \"nope\": executable file not found in $PATH: unknown", 127),
            (
                "exec: \"/nope\": stat /nope: no such file or directory: unknown",
                127,
            ),
            ("exec: \"/etc/passwd\": permission denied: unknown", 126),
            ("exec: \"/etc\": is a directory: unknown", 126),
            ("no memory left", 125),
        ] {
            let error = ApiError::Refused {
                status: hyper::StatusCode::BAD_REQUEST,
                message: message.to_owned(),
            };
            assert_eq!(start_failure(&error).code, code, "{message}");
        }
    }
}
