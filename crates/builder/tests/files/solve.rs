//! Builds, with commands that are answered here: what runs them for real is not this crate's.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use builder::{
    BuildError, BuildRequest, Builder, BuiltImage, Cache, Command, CommandAgent, Context, Ended, Event,
    HeldImage, Host, HostError, Layers, Network, Platform, Reporter, STEP_LABEL, Secrets,
};
use dockerfile::BuildOptions;
use image_store::{Image, ImageStore};
use registry::{Registry, RegistryConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Barrier, mpsc, watch};

use crate::support::Archive;

/// How long something may take that happens at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A command prints its arguments and leaves a file that is named as its last word, if it is a path.
pub(crate) struct Commands {
    pub(crate) store: ImageStore,
    ran: Mutex<Vec<Vec<String>>>,
    /// The last one that has ended.
    last: Mutex<Option<Command>>,
    /// How many have to run at the same time.
    together: Barrier,
    /// How many run.
    running: watch::Sender<usize>,
}

struct Running(watch::Sender<usize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Commands {
    fn hold(&self, name: &str) -> Result<HeldImage, HostError> {
        let image = self.store.resolve(name).map_err(HostError::of)?;
        let hold = self.store.hold(&image);
        Ok(HeldImage { image, hold })
    }

    /// Waits until so many commands run.
    pub(crate) async fn until_running(&self, count: usize) {
        let mut running = self.running.subscribe();
        let reached = running.wait_for(|running| *running == count);
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        reached.expect("the commands do not begin or end").unwrap();
    }
}

impl Host for Commands {
    type Stage = ();

    async fn image(
        &self,
        name: &str,
        _: Option<&Platform>,
        _: bool,
        _: &Reporter,
    ) -> Result<HeldImage, HostError> {
        self.hold(name)
    }

    fn key(&self) -> String {
        String::new()
    }

    async fn find(&self, id: &str) -> Result<Option<HeldImage>, HostError> {
        Ok(self.hold(id).ok())
    }

    async fn run<T: Send + 'static>(
        &self,
        (): &mut (),
        command: Command,
        reporter: &Reporter,
        keep: impl FnOnce(Box<dyn Read + Send>) -> T + Send + 'static,
    ) -> Result<Ended<T>, HostError> {
        self.running.send_modify(|count| *count += 1);
        let _running = Running(self.running.clone());
        let line = command.arguments.join(" ");
        let count = {
            let mut ran = self.ran.lock().unwrap();
            ran.push(command.arguments.clone());
            ran.len()
        };
        self.together.wait().await;
        reporter.tell_line(format!("ran {line}\n"));
        if line.contains("fail") {
            return Ok(Ended::Failed(7));
        }
        if line.contains("hang") {
            std::future::pending::<()>().await;
        }
        let path = line
            .rsplit(' ')
            .next()
            .unwrap_or_default()
            .trim_start_matches('/');
        let archive = Archive::new()
            .dir("etc", 0o755)
            .file("etc/hosts", "")
            .file(path, &command.environment.join("\n"))
            .file(
                "count",
                if line.contains("unlike") {
                    "x".repeat(count)
                } else {
                    String::new()
                }
                .as_str(),
            )
            .tar();
        *self.last.lock().unwrap() = Some(command);
        let kept = tokio::task::spawn_blocking(move || keep(Box::new(std::io::Cursor::new(archive))));
        kept.await.map(Ended::Done).map_err(HostError::of)
    }

    async fn end(&self, (): ()) {}
}

pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) builder: Arc<Builder<Commands>>,
    pub(crate) host: Arc<Commands>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with_together(1)
    }

    fn with_together(together: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&folder.path().join("store")).unwrap();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": { "Env": ["PATH=/bin", "A=below"], "Cmd": ["sh"], "OnBuild": ["ENV TRIGGERED=yes", "COPY a /triggered"] },
        });
        let base = Archive::new().dir("bin", 0o755).file("bin/sh", "sh").tar();
        let name = "base".parse().unwrap();
        store.import(base.as_slice(), Some(&name), config).unwrap();
        let host = Arc::new(Commands {
            store: store.clone(),
            ran: Mutex::default(),
            last: Mutex::default(),
            together: Barrier::new(together),
            running: watch::Sender::new(0),
        });
        let cache = Cache::open(folder.path().join("cache")).unwrap();
        let registry = Registry::new(RegistryConfig::default()).unwrap();
        let builder = Builder::new(
            host.clone(),
            store,
            cache,
            Arc::new(Layers::default()),
            registry,
            folder.path().to_owned(),
        );
        Self {
            folder,
            builder: Arc::new(builder),
            host,
        }
    }

    pub(crate) fn request(&self, text: &str, context: &Archive) -> BuildRequest {
        let context =
            Context::from_tar(context.tar().as_slice(), self.folder.path(), Default::default()).unwrap();
        BuildRequest {
            dockerfile: dockerfile::parse(text).unwrap(),
            options: BuildOptions::new(Platform::linux("amd64")),
            platform: None,
            context: Arc::new(context),
            labels: BTreeMap::new(),
            references: Vec::new(),
            no_cache: false,
            pull: false,
            network: Network::Default,
            secrets: Secrets::default(),
            agents: BTreeSet::new(),
            epoch: None,
            time_limit: None,
            imports: Vec::new(),
            inline_cache: false,
        }
    }

    pub(crate) async fn run(&self, request: BuildRequest) -> (Result<Image, BuildError>, Vec<Event>) {
        let (built, events) = self.run_all(request).await;
        (built.map(|built| built.image), events)
    }

    pub(crate) async fn run_all(
        &self,
        request: BuildRequest,
    ) -> (Result<BuiltImage, BuildError>, Vec<Event>) {
        let (sender, mut events) = mpsc::channel(1);
        let listening = async {
            let mut told = Vec::new();
            while let Some(event) = events.recv().await {
                told.push(event);
            }
            told
        };
        tokio::join!(self.builder.build(request, sender), listening)
    }

    pub(crate) async fn build(&self, text: &str, context: &Archive) -> (Image, usize) {
        let (built, events) = self.run(self.request(text, context)).await;
        let cached = events.iter().filter(|event| **event == Event::Cached).count();
        (built.unwrap(), cached)
    }

    fn config(&self, image: &Image) -> Value {
        serde_json::from_slice(&self.host.store.raw_config(image).unwrap()).unwrap()
    }

    pub(crate) fn commands(&self) -> usize {
        self.host.ran.lock().unwrap().len()
    }
}

pub(crate) fn context() -> Archive {
    Archive::new().file("a", "1").file("b", "2")
}

pub(crate) const STEPS: &str =
    "FROM base\nARG V=1\nCOPY a /x/\nRUN make $V /made\nENV B=c\nWORKDIR /w\nCOPY b .\nCMD [\"run\"]\n";

#[tokio::test]
async fn what_was_built_before_is_the_same_image_from_the_cache() {
    let place = Place::new();
    let (image, cached) = place.build(STEPS, &context()).await;
    assert_eq!((cached, place.commands()), (0, 1));
    let again = place.build(STEPS, &context()).await;
    // The trigger, both COPY, RUN and WORKDIR.
    assert_eq!(
        (again.0.id.as_str(), again.1, place.commands()),
        (image.id.as_str(), 5, 1)
    );
    let config = place.config(&image);
    assert_eq!(
        config["config"]["Env"],
        json!(["PATH=/bin", "A=below", "TRIGGERED=yes", "B=c"])
    );
    assert_eq!(
        (&config["config"]["Cmd"], &config["config"]["WorkingDir"]),
        (&json!(["run"]), &json!("/w"))
    );
    assert_eq!(
        config["config"].get("OnBuild"),
        None,
        "triggers are for one build"
    );
    let steps: Vec<&str> = config["history"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|step| step["created_by"].as_str())
        .collect();
    assert!(
        steps.contains(&"RUN |1 V=1 /bin/sh -c make $V /made"),
        "{steps:?}"
    );
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 6);
    // Nothing but the image and the base is for people.
    let seen = place.host.store.summaries().unwrap();
    let seen: Vec<_> = seen
        .iter()
        .filter(|image| !image.labels.contains_key(STEP_LABEL))
        .collect();
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn only_what_follows_a_change_is_built_again() {
    let place = Place::new();
    place.build(STEPS, &context()).await;
    let other = Archive::new().file("a", "1").file("b", "other");
    assert_eq!((place.build(STEPS, &other).await.1, place.commands()), (4, 1));
    let other = Archive::new().file("a", "other").file("b", "2");
    assert_eq!((place.build(STEPS, &other).await.1, place.commands()), (0, 2));
    let newer = Archive::new()
        .file("a", "1")
        .with(|entry| entry.mtime.seconds = 5)
        .file("b", "2");
    assert_eq!(
        (place.build(STEPS, &newer).await.1, place.commands()),
        (5, 2),
        "times do not count"
    );
    let mut request = place.request(STEPS, &context());
    request.options.build_args.insert("V".into(), "2".into());
    place.run(request).await.0.unwrap();
    assert_eq!(place.commands(), 3);
    let mut request = place.request(STEPS, &context());
    request.no_cache = true;
    let (_, events) = place.run(request).await;
    assert!(!events.contains(&Event::Cached));
    assert_eq!(place.commands(), 4);
}

#[tokio::test]
async fn with_a_time_that_is_given_images_are_the_same_everywhere() {
    let mut ids = Vec::new();
    for _ in 0..2 {
        let place = Place::new();
        let mut request = place.request(STEPS, &context());
        request.epoch = Some(1_600_000_000);
        ids.push(place.run(request).await.0.unwrap().manifest_digest);
    }
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn stages_that_need_nothing_of_each_other_run_at_the_same_time_and_are_told_one_after_the_other() {
    let place = Place::with_together(2);
    let text = "FROM scratch AS a\nRUN a /1\nFROM scratch AS b\nRUN b /2\nFROM scratch AS unused\nRUN fail\nFROM scratch\n\
                COPY --from=a /1 /\nCOPY --from=b /2 /\n";
    let (built, events) = place.run(place.request(text, &context())).await;
    assert_eq!(built.unwrap().layers.len(), 2);
    let told: Vec<String> = events
        .iter()
        .filter_map(|event| match event {
            Event::Step { number, total, text } => Some(format!("{number}/{total} {text}")),
            Event::Output { bytes, .. } => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        })
        .collect();
    let expected = [
        "1/7 FROM scratch AS a",
        "2/7 RUN a /1",
        "ran /bin/sh -c a /1\n",
        "3/7 FROM scratch AS b",
        "4/7 RUN b /2",
        "ran /bin/sh -c b /2\n",
        "5/7 FROM scratch",
        "6/7 COPY --from=a /1 /",
        "7/7 COPY --from=b /2 /",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn stages_that_do_the_same_at_the_same_time_go_on_with_one_result() {
    let place = Place::with_together(2);
    let text = "FROM base AS a\nRUN unlike /1\nWORKDIR /a\nFROM base AS b\nRUN unlike /1\nWORKDIR /b\n\
                FROM scratch\nCOPY --from=a /count /a\nCOPY --from=b /count /b\n";
    let (image, cached) = place.build(text, &context()).await;
    assert_eq!(place.commands(), 2);
    let (again, all) = place.build(text, &context()).await;
    assert_eq!((place.commands(), again.id), (2, image.id));
    assert!(cached < all);
    let steps = text.lines().filter(|line| !line.starts_with("FROM")).count();
    // Each of the two has the trigger of the base, too.
    assert_eq!(all, steps + 2);
}

#[tokio::test]
async fn triggers_of_a_stage_run_in_the_stages_that_begin_with_it() {
    let place = Place::new();
    let text = "FROM scratch AS a\nONBUILD ENV ON=a\nONBUILD COPY b /x/\nONBUILD RUN make /made\nFROM a AS b\nONBUILD WORKDIR /w\n\
                FROM b\nCMD [\"run\"]\n";
    let (built, events) = place.run(place.request(text, &context())).await;
    let image = built.unwrap();
    assert_eq!((image.layers.len(), place.commands()), (3, 1));
    let config = &place.config(&image)["config"];
    assert_eq!(config.get("OnBuild"), None, "each runs once");
    assert_eq!(config["WorkingDir"], json!("/w"));
    assert!(config["Env"].as_array().unwrap().contains(&json!("ON=a")));
    let told = |line: &str| {
        let is_it = |event: &&Event| matches!(event, Event::Output { bytes, .. } if bytes == line.as_bytes());
        events.iter().filter(is_it).count()
    };
    assert_eq!(told("# Executing 3 build triggers\n"), 1);
    assert_eq!(told("# Executing 1 build triggers\n"), 1);
}

#[tokio::test]
async fn a_command_that_fails_ends_the_build_with_its_code_and_place() {
    let place = Place::new();
    let text = "FROM base\nCOPY a /a\nRUN fail\n";
    let (built, _) = place.run(place.request(text, &context())).await;
    let error = built.unwrap_err();
    assert_eq!(error.exit_code(), Some(7));
    assert_eq!(error.span().unwrap().start.line, 3);
    let shown = error.render("Dockerfile", text);
    assert!(
        shown.starts_with("The command '/bin/sh -c fail' returned a non-zero code: 7\n"),
        "{shown}"
    );
    assert!(
        shown.contains("Dockerfile:3:1") && shown.contains("RUN fail"),
        "{shown}"
    );
    let text = "FROM base\nCOPY a /a\nRUN make /b\n";
    assert_eq!(
        place.build(text, &context()).await.1,
        2,
        "what came before it is kept"
    );
}

#[tokio::test]
async fn secrets_reach_the_command_and_nothing_else() {
    let place = Place::new();
    let text = "FROM base\nRUN --mount=type=secret,id=key,env=KEY make /made\n";
    let (built, _) = place.run(place.request(text, &context())).await;
    // One that is not required is left out.
    built.unwrap();
    let text = "FROM base\nRUN --mount=type=secret,id=key,required=true make /made\n";
    let error = place.run(place.request(text, &context())).await.0.unwrap_err();
    assert_eq!(
        error.to_string(),
        "secret key: not found; give it to the build with --secret id=key,src=FILE"
    );
    let mut request = place.request(text, &context());
    request.secrets.0.insert("key".into(), b"hidden-value".to_vec());
    assert!(!format!("{request:?}").contains("104, 105, 100"));
    let (built, events) = place.run(request).await;
    let config = place.config(&built.unwrap()).to_string();
    assert!(!config.contains("hidden-value") && !format!("{events:?}").contains("hidden-value"));
    assert!(!contains(&place.folder.path().join("cache"), b"hidden-value"));
}

#[tokio::test]
async fn agents_that_are_lent_have_a_socket_and_a_variable() {
    let place = Place::new();
    let run = async |dockerfile: &str| {
        let mut request = place.request(dockerfile, &context());
        request.agents.insert("default".into());
        request.no_cache = true;
        place.run(request).await.0.map(|_| {
            let command = place.host.last.lock().unwrap().take().unwrap();
            let variable = command
                .environment
                .iter()
                .find_map(|variable| variable.strip_prefix("SSH_AUTH_SOCK="));
            (variable.map(str::to_owned), command.agents)
        })
    };
    let agent = |target: &str, mode, owner| CommandAgent {
        id: "default".into(),
        target: target.into(),
        mode,
        owner,
    };
    let named = "/run/buildkit/ssh_agent.0";
    assert_eq!(
        run("FROM base\nRUN --mount=type=ssh make /made\n").await.unwrap(),
        (Some(named.to_owned()), vec![agent(named, 0o600, (0, 0))])
    );
    // The Dockerfile's own variable stays; a place is named as any other.
    let text = "FROM base\nWORKDIR /w\nENV SSH_AUTH_SOCK=/own\n\
                RUN --mount=type=ssh,target=agent,mode=0666,uid=1,gid=2 --mount=type=ssh make /made\n";
    assert_eq!(
        run(text).await.unwrap(),
        (
            Some("/own".to_owned()),
            vec![
                agent("/w/agent", 0o666, (1, 2)),
                agent("/run/buildkit/ssh_agent.1", 0o600, (0, 0))
            ]
        )
    );
    let text = "FROM base\nRUN --mount=type=ssh,id=other make /made\n";
    assert_eq!(run(text).await.unwrap(), (None, Vec::new()));
    let error = run("FROM base\nRUN --mount=type=ssh,id=other,required make /made\n").await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "SSH agent other: not found; lend it to the build with --ssh other"
    );
}

fn contains(folder: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let content = std::fs::read(entry.unwrap().path()).unwrap();
        content.windows(needle.len()).any(|window| window == needle)
    })
}
