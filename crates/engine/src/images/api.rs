//! What an engine does with images.

use std::collections::HashSet;
use std::time::SystemTime;

use ::registry::Credentials;
use image_store::{CheckReport, HistoryEntry, Image, ImageSummary, Pruned, Removal, Usage};

use super::archives::{ArchiveInput, ArchiveOutput, ImportRequest};
use super::config::ImageConfig;
use super::containers::Users;
use super::failure::ImageFailure;
use super::is_between_steps;
use super::manifest::{self, Manifest};
use super::names::{RemoteImage, parse};
use super::progress::ImageEvent;
use super::pull::PullRequest;
use super::push::PushRequest;
use super::remote;
use super::transfers::Follower;
use crate::engine::{Engine, complete};
use crate::events::{EventKind, Events};
use crate::{EngineError, Result, Status};

const DOCKER_HUB: &str = "docker.io";

/// A transfer that a client follows. Dropping it gives the transfer up, unless another client follows it, too.
#[derive(Debug)]
pub struct TransferEvents(pub(crate) Follower<()>);

/// How a transfer ended.
pub type TransferEnd = Result<(), ImageFailure>;

impl TransferEvents {
    /// What happens next; after the last of it, how it ended.
    pub async fn next(&mut self) -> Result<Vec<ImageEvent>, TransferEnd> {
        self.0.next().await
    }
}

/// A login that a registry accepted.
#[derive(Clone, PartialEq, Eq)]
pub struct LoginStatus {
    /// A token that is to be kept in the password's place, if the registry gave one.
    pub identity_token: Option<String>,
}

/// What to look for in a registry.
#[derive(Clone, Debug)]
pub struct SearchRequest {
    /// The term, perhaps with a registry in front.
    pub term: String,
    /// Results at most.
    pub limit: u16,
    /// For the registry.
    pub credentials: Credentials,
}

/// An image that a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchResult {
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: String,
    /// How many people like it.
    pub stars: u64,
    /// Whether the registry's owner answers for it.
    pub official: bool,
}

/// A manifest in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryManifest {
    /// The full name that leads to it.
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its bytes as they came.
    pub bytes: Vec<u8>,
    /// `OS/ARCHITECTURE[/VARIANT]` each: those of an index, or that of the image's configuration.
    pub platforms: Vec<PlatformName>,
}

/// A platform in Go's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformName {
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
    /// `v7`; mostly empty.
    pub variant: String,
}

impl Engine {
    /// All images, the newest first.
    pub async fn images(&self) -> Result<Vec<ImageSummary>> {
        self.shared.images.summaries().await
    }

    /// The image with this name or id.
    pub async fn image(&self, name: &str) -> Result<Image> {
        self.shared.images.resolve(name).await
    }

    /// The image with this name or id, if it is for a platform: `OS/ARCHITECTURE[/VARIANT]`.
    pub async fn image_for(&self, name: &str, platform: &str) -> Result<Image> {
        let wanted = remote::platform(Some(platform))?;
        let image = self.image(name).await?;
        remote::check_platform(name, &image.config, &wanted)?;
        Ok(image)
    }

    /// How an image came to be, the last step first.
    pub async fn image_history(&self, name: &str) -> Result<Vec<HistoryEntry>> {
        let name = name.to_owned();
        let history = move |store: &image_store::ImageStore| store.history(&store.resolve(&name)?);
        self.shared.images.ask("read an image's history", history).await
    }

    /// The media type and the size of an image's own manifest.
    pub async fn image_manifest(&self, image: &Image) -> Result<(String, u64)> {
        let image = image.clone();
        let manifest = self
            .shared
            .images
            .ask("read a manifest", move |store| store.manifest(&image))
            .await?;
        Ok((manifest.media_type, manifest.bytes.len() as u64))
    }

    /// How the containers of an image run.
    pub async fn image_config(&self, image: &Image) -> Result<ImageConfig> {
        self.shared.images.config(image).await
    }

    /// When a name with a tag was last given to an image here, if that was kept.
    pub async fn image_last_tagged(&self, image: &Image) -> Result<Option<SystemTime>> {
        let image = image.clone();
        self.shared
            .images
            .ask("look up when an image was tagged", move |store| {
                store.last_tagged(&image)
            })
            .await
    }

    /// Pulls an image, or joins the pull that is under way.
    pub async fn pull(&self, request: &PullRequest) -> Result<TransferEvents> {
        Ok(TransferEvents(self.shared.images.pull(request).await?))
    }

    /// The tags that a repository has in its registry.
    pub async fn remote_tags(&self, name: &str, credentials: Credentials) -> Result<Vec<String>> {
        let image = RemoteImage::parse(name)?;
        let (shown, repository_name) = (image.familiar(), image.familiar_repository());
        let failed = |error: &_| ImageFailure::of_pull(&shown, &repository_name, error);
        let repository = self
            .shared
            .images
            .registry
            .repository(&image.host, &image.path, credentials)
            .map_err(|error| failed(&error))?;
        Ok(repository.tags().await.map_err(|error| failed(&error))?)
    }

    /// Pushes images.
    pub async fn push(&self, request: &PushRequest) -> Result<TransferEvents> {
        Ok(TransferEvents(self.shared.images.push(request).await?))
    }

    /// Gives an image a further name, which moves there from the image that had it.
    pub async fn tag_image(&self, source: &str, target: &str) -> Result<()> {
        let (source, target) = (source.to_owned(), parse(target)?);
        if target.digest().is_some() {
            return Err(EngineError::Invalid(
                "refusing to create a tag with a digest reference".into(),
            ));
        }
        let shared = self.shared.clone();
        complete(async move {
            let name = target.storage_name();
            shared
                .images
                .ask("name an image", move |store| {
                    store.tag(&source, &target).map(drop)
                })
                .await?;
            let image = shared.images.resolve(&name).await?;
            shared.events.image("tag", &image.id, super::familiar(&name));
            Ok(())
        })
        .await
    }

    /// Removes a name, and with its last name the image.
    pub async fn remove_image(&self, name: &str, force: bool) -> Result<Vec<Removal>> {
        let (shared, name) = (self.shared.clone(), name.to_owned());
        complete(async move {
            let users = Users::of(&shared.registry.all());
            let id = shared.images.resolve(&name).await?.id;
            let removed = shared
                .images
                .ask("remove an image", move |store| store.remove(&name, force, &users))
                .await?;
            for removal in &removed {
                match removal {
                    Removal::Untagged(_) => shared.events.image("untag", &id, &id),
                    Removal::Deleted(gone) if *gone == id => shared.events.image("delete", &id, &id),
                    // A layer.
                    Removal::Deleted(_) => {}
                }
            }
            Ok(removed)
        })
        .await
    }

    /// Removes the images that `select` wants gone and no container uses.
    pub async fn prune_images(
        &self,
        mut select: impl FnMut(&ImageSummary) -> bool + Send + 'static,
    ) -> Result<Pruned> {
        let shared = self.shared.clone();
        complete(async move {
            let users = Users::of(&shared.registry.all());
            let (pruned, selected) = shared
                .images
                .ask("remove images", move |store| {
                    let mut selected = HashSet::new();
                    let select = |image: &ImageSummary| {
                        let is_wanted = !is_between_steps(image) && select(image);
                        if is_wanted {
                            selected.insert(image.id.clone());
                        }
                        is_wanted
                    };
                    let pruned = store.prune(select, &users)?;
                    Ok((pruned, selected))
                })
                .await?;
            tell_pruned(&shared.events, &pruned.removals, &selected);
            shared.events.prune(EventKind::Image, pruned.reclaimed);
            Ok(pruned)
        })
        .await
    }

    /// Removes the containers that do not run and that `select` wants gone; their ids, and the bytes on the disk
    /// that are free now.
    pub async fn prune_containers(
        &self,
        select: impl Fn(&crate::Container) -> bool,
    ) -> Result<(Vec<String>, u64)> {
        let mut removed = Vec::new();
        let mut reclaimed = 0;
        for live in self.shared.registry.all() {
            if live.is_up() || live.status() == Status::Restarting || !select(&self.shared.view(&live)) {
                continue;
            }
            let size = self.container_size(live.id()).await.unwrap_or_default();
            match self.remove(live.id(), false, false).await {
                Ok(()) => {
                    removed.push(live.id().to_owned());
                    reclaimed += size;
                }
                // Started or removed meanwhile.
                Err(EngineError::Conflict(_) | EngineError::NoSuchContainer(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.shared.events.prune(EventKind::Container, reclaimed);
        Ok((removed, reclaimed))
    }

    /// What a container's writable disk takes on the host, in bytes.
    pub async fn container_size(&self, name: &str) -> Result<u64> {
        use std::os::unix::fs::MetadataExt;
        let path = self.find(name)?.folder.disk();
        crate::streams::blocking("look at a container's disk", move || {
            let metadata = std::fs::metadata(&path).map_err(EngineError::io("look at", &path))?;
            // st_blocks counts in units of 512 bytes whatever the file system's are.
            Ok(metadata.blocks() * 512)
        })
        .await
    }

    /// Of these names of images, each with the identifier of the image that it led to once, those that still do.
    pub async fn current_image_names(
        &self,
        names: HashSet<(String, String)>,
    ) -> Result<HashSet<(String, String)>> {
        self.shared.images.current(names).await
    }

    /// Writes images as one archive.
    pub async fn save_images(&self, names: Vec<String>) -> Result<ArchiveOutput> {
        self.shared.images.save(names).await
    }

    /// Reads an archive of images: all of them, or those for one platform, of which there must be one.
    pub fn load_images(&self, platform: Option<&str>) -> Result<(ArchiveInput, TransferEvents)> {
        let (input, follower) = self.shared.images.load(platform)?;
        Ok((input, TransferEvents(follower)))
    }

    /// Makes an image of the archive of a root file system.
    pub fn import_image(&self, request: ImportRequest) -> Result<(ArchiveInput, TransferEvents)> {
        let (input, follower) = self.shared.images.import(request)?;
        Ok((input, TransferEvents(follower)))
    }

    /// Makes an image of the archive of a root file system that is downloaded from `url`.
    pub async fn import_image_from(&self, request: ImportRequest, url: &str) -> Result<TransferEvents> {
        Ok(TransferEvents(self.shared.images.import_url(request, url).await?))
    }

    /// What the images take on the disk.
    pub async fn image_usage(&self) -> Result<Usage> {
        self.shared
            .images
            .ask("add up the images", |store| {
                let mut usage = store.usage()?;
                usage.images.retain(|image| !is_between_steps(&image.image));
                Ok(usage)
            })
            .await
    }

    /// Reads all images and compares them with their digests; what is damaged is taken out of the store.
    pub async fn check_images(&self) -> Result<CheckReport> {
        self.shared
            .images
            .ask("check the images", image_store::ImageStore::check)
            .await
    }

    /// Shows a registry the credentials.
    pub async fn log_in(&self, server: &str, credentials: Credentials) -> Result<LoginStatus> {
        let host = server_host(server);
        let status = self.shared.images.registry.login(host, &credentials).await;
        let status = status.map_err(|error| ImageFailure::of_registry(&error))?;
        Ok(LoginStatus {
            identity_token: status.identity_token,
        })
    }

    /// Looks for images in a registry.
    pub async fn search(&self, request: SearchRequest) -> Result<Vec<SearchResult>> {
        let SearchRequest {
            term,
            limit,
            credentials,
        } = request;
        let (host, term) = match term.split_once('/') {
            Some((host, rest)) if host == "localhost" || host.contains(['.', ':']) => (host, rest),
            _ => (DOCKER_HUB, term.as_str()),
        };
        let found = self
            .shared
            .images
            .registry
            .search(host, term, limit, &credentials)
            .await;
        let found = found.map_err(|error| ImageFailure::of_registry(&error))?;
        Ok(found
            .into_iter()
            .map(|found| SearchResult {
                name: found.name,
                description: found.description,
                stars: found.star_count,
                official: found.is_official,
            })
            .collect())
    }

    /// The manifest that a name leads to in its registry, and with `all` those that an index leads to.
    pub async fn remote_manifest(
        &self,
        name: &str,
        credentials: Credentials,
        all: bool,
    ) -> Result<(RegistryManifest, Vec<RegistryManifest>)> {
        let image = RemoteImage::parse(name)?;
        let (shown, repository_name) = (image.familiar(), image.familiar_repository());
        let failed = |error: &_| EngineError::from(ImageFailure::of_pull(&shown, &repository_name, error));
        let repository = self
            .shared
            .images
            .registry
            .repository(&image.host, &image.path, credentials)
            .map_err(|error| failed(&error))?;
        let found = remote::manifest(&repository, &image.reference)
            .await
            .map_err(|error| failed(&error))?;
        let read = manifest::read(&shown, &found.media_type, &found.bytes)?;
        let mut platforms = Vec::new();
        let mut parts = Vec::new();
        match read {
            Manifest::Index(index) => {
                let entries = index.manifests();
                platforms.extend(
                    entries
                        .iter()
                        .filter_map(|entry| entry.platform().as_ref())
                        .map(PlatformName::of),
                );
                for entry in entries.iter().filter(|_| all) {
                    let part = remote::manifest_by_digest(&repository, entry.digest());
                    let part = part.await.map_err(|error| failed(&error))?;
                    parts.push(RegistryManifest {
                        name: format!("{}@{}", image.reference.storage_repository(), part.digest),
                        media_type: part.media_type,
                        digest: part.digest.to_string(),
                        bytes: part.bytes.to_vec(),
                        platforms: entry.platform().iter().map(PlatformName::of).collect(),
                    });
                }
            }
            Manifest::Image(own) => {
                let config = remote::read_blob(&repository, &own.config, manifest::CONFIG_MAX).await?;
                platforms.extend(PlatformName::of_config(&config));
            }
        }
        let found = RegistryManifest {
            name: image.reference.storage_name(),
            media_type: found.media_type,
            digest: found.digest.to_string(),
            bytes: found.bytes.to_vec(),
            platforms,
        };
        Ok((found, parts))
    }
}

/// Tells which images went: after the names of one comes the image, and after that its layers.
fn tell_pruned(events: &Events, removals: &[Removal], images: &HashSet<String>) {
    let mut names = 0;
    for removal in removals {
        match removal {
            Removal::Untagged(_) => names += 1,
            Removal::Deleted(id) if images.contains(id) => {
                for _ in 0..std::mem::take(&mut names) {
                    events.image("untag", id, id);
                }
                events.image("delete", id, id);
            }
            Removal::Deleted(_) => {}
        }
    }
}

/// The host of a server as clients name it: Docker Hub has a URL of its own for logins.
fn server_host(server: &str) -> &str {
    let rest = server
        .strip_prefix("https://")
        .or_else(|| server.strip_prefix("http://"))
        .unwrap_or(server);
    match rest.split('/').next().unwrap_or(rest) {
        "" | "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        host => host,
    }
}

impl PlatformName {
    /// Reads `OS/ARCHITECTURE[/VARIANT]`, with Docker's other names for the same things.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self::of(&remote::platform(Some(text))?))
    }

    fn of(platform: &::registry::Platform) -> Self {
        Self {
            os: platform.os().to_string(),
            architecture: platform.architecture().to_string(),
            variant: platform.variant().clone().unwrap_or_default(),
        }
    }

    fn of_config(bytes: &[u8]) -> Option<Self> {
        let config: image_store::ImageConfiguration = serde_json::from_slice(bytes).ok()?;
        Some(Self {
            os: config.os().to_string(),
            architecture: config.architecture().to_string(),
            variant: config.variant().clone().unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_that_are_pruned_are_told_with_their_image() {
        let events = Events::default();
        let mut told = events.listen(None);
        let untagged = |name: &str| Removal::Untagged(name.to_owned());
        let deleted = |id: &str| Removal::Deleted(id.to_owned());
        let removals = [
            untagged("a:1"),
            untagged("a:2"),
            deleted("image-a"),
            deleted("layer"),
            deleted("image-b"),
        ];
        let images = HashSet::from(["image-a".to_owned(), "image-b".to_owned()]);
        tell_pruned(&events, &removals, &images);
        events.prune(EventKind::Image, 7);
        for expected in [
            ("untag", "image-a"),
            ("untag", "image-a"),
            ("delete", "image-a"),
            ("delete", "image-b"),
            ("prune", ""),
        ] {
            let event = told.next().await.unwrap();
            assert_eq!((event.action.as_str(), event.id.as_str()), expected);
        }
    }
}
