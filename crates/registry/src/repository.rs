//! One repository, as one user sees it: its manifests and blobs.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use oci_spec::image::Digest;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode, Url};
use tokio::sync::OnceCell;

use crate::answer::Answer;
use crate::blob::{BlobDescriptor, BlobStream, Retry};
use crate::call::{Call, Payload};
use crate::config::{ConfigError, RetryPolicy};
use crate::digest::{DigestMismatch, sha256};
use crate::error::{RegistryError, Result};
use crate::host::Host;
use crate::manifest::{ACCEPTED, MAX_MANIFEST, ManifestError, ManifestReference, RawManifest, announced};
use crate::push::BlobPush;
use crate::session::{Opening, Session};
use crate::token::Scope;
use crate::upload::{BlobSource, Upload};

/// Bytes of a repository's name (distribution specification: 255 with the registry's).
const MAX_NAME: usize = 255;

/// One repository, as one user sees it. Clones share the session with the registry.
///
/// Pulls ask the mirrors first, where there are any; pushes do not. The registry is asked what it wants to see
/// with the first request, not before.
#[derive(Clone)]
pub struct Repository(Arc<Shared>);

struct Shared {
    registry: Host,
    name: String,
    policy: RetryPolicy,
    /// Mirrors, and at the end the registry itself.
    endpoints: Vec<Endpoint>,
}

/// A place to ask, and the session once it was asked.
pub(crate) struct Endpoint {
    opening: Box<dyn Fn() -> Opening + Send + Sync>,
    session: OnceCell<Arc<Session>>,
}

impl Endpoint {
    pub(crate) fn new(opening: impl Fn() -> Opening + Send + Sync + 'static) -> Self {
        Self {
            opening: Box::new(opening),
            session: OnceCell::new(),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.registry, self.0.name)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repository({self})")
    }
}

impl Repository {
    pub(crate) fn new(
        registry: Host,
        name: &str,
        policy: RetryPolicy,
        endpoints: Vec<Endpoint>,
    ) -> Result<Self, ConfigError> {
        if !is_repository_name(name) {
            return Err(ConfigError::Repository(name.chars().take(MAX_NAME).collect()));
        }
        Ok(Self(Arc::new(Shared {
            registry,
            name: name.to_string(),
            policy,
            endpoints,
        })))
    }

    /// Reads a manifest or an index, to the byte as the registry has it.
    ///
    /// # Errors
    /// What [`RegistryError`] lists; [`RegistryError::Digest`] if the bytes are not what the reference, or the
    /// registry, says they are; [`RegistryError::TooLarge`] beyond [`MAX_MANIFEST`].
    pub async fn manifest(&self, reference: &ManifestReference) -> Result<RawManifest> {
        let mut endpoint = 0;
        loop {
            let outcome = self.manifest_from(endpoint, reference).await;
            endpoint += 1;
            match outcome {
                Err(error) if endpoint < self.endpoints() => {
                    tracing::debug!(%error, "the next endpoint is asked");
                }
                outcome => return outcome,
            }
        }
    }

    async fn manifest_from(&self, endpoint: usize, reference: &ManifestReference) -> Result<RawManifest> {
        let what = format!("pull manifest {reference} of {self}");
        let path = format!("{}/manifests/{}", self.name(), reference.checked()?);
        let session = self.session(endpoint, &what).await?;
        let answer = session
            .call(&self.ask_for_manifest(&what, Method::GET, session.url(&path)))
            .await?;
        let headers = answer.headers().clone();
        let bytes = answer.bytes(MAX_MANIFEST).await?;
        let manifest = RawManifest::verified(reference, &headers, bytes);
        manifest.map_err(|error| self.not_the_manifest(&what, error))
    }

    /// The digest and the size of a manifest, without its bytes; `None` if it is not there.
    ///
    /// # Errors
    /// What [`RegistryError`] lists.
    pub async fn has_manifest(&self, reference: &ManifestReference) -> Result<Option<BlobDescriptor>> {
        let what = format!("look for manifest {reference} of {self}");
        let path = format!("{}/manifests/{}", self.name(), reference.checked()?);
        let session = self.session(self.endpoints() - 1, &what).await?;
        let call = self.ask_for_manifest(&what, Method::HEAD, session.url(&path));
        let answer = session.call(&call.expecting(&[StatusCode::NOT_FOUND])).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if let (Some(digest), Some(size)) = (announced(answer.headers()), answer.length()) {
            return Ok(Some(BlobDescriptor { digest, size }));
        }
        let manifest = self.manifest(reference).await?;
        Ok(Some(BlobDescriptor {
            digest: manifest.digest,
            size: manifest.bytes.len() as u64,
        }))
    }

    fn ask_for_manifest<'a>(&self, what: &str, method: Method, url: Url) -> Call<'a> {
        let accepted = HeaderValue::from_static(ACCEPTED);
        Call::new(what, method, url)
            .header(ACCEPT, accepted)
            .scope(Scope::pull(self.name()))
    }

    /// Reads a blob, across cuts. See [`BlobStream`].
    pub fn blob(&self, blob: &BlobDescriptor) -> BlobStream {
        self.blob_watched(blob, |_| {})
    }

    /// Reads a blob; `on_retry` is told of every pause.
    pub fn blob_watched(
        &self,
        blob: &BlobDescriptor,
        on_retry: impl Fn(Retry<'_>) + Send + Sync + 'static,
    ) -> BlobStream {
        BlobStream::new(self.clone(), blob.clone(), Box::new(on_retry))
    }

    /// Whether the registry has a blob in this repository, so that it need not be pushed.
    ///
    /// # Errors
    /// What [`RegistryError`] lists, except that 404 is an answer.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let what = format!("look for blob {digest} of {self}");
        let session = self.session(self.endpoints() - 1, &what).await?;
        let call = Call::new(
            &what,
            Method::HEAD,
            session.url(&format!("{}/blobs/{digest}", self.name())),
        )
        .scope(Scope::push(self.name()))
        .expecting(&[StatusCode::NOT_FOUND]);
        Ok(session.call(&call).await?.status().is_success())
    }

    /// Has the registry take a blob from another of its repositories. `false`: it must be pushed, because it is
    /// not there, or the user may not see it there, or the registry does not do this.
    ///
    /// # Errors
    /// What [`RegistryError`] lists, except 401, 403 and 404.
    pub async fn mount_blob(&self, digest: &Digest, from_repository: &str) -> Result<bool> {
        if !is_repository_name(from_repository) {
            return Err(ConfigError::Repository(from_repository.chars().take(MAX_NAME).collect()).into());
        }
        let what = format!("mount blob {digest} of {from_repository} in {self}");
        let session = self.session(self.endpoints() - 1, &what).await?;
        let scope = Scope::mount(self.name(), from_repository);
        let mut url = session.url(&format!("{}/blobs/uploads/", self.name()));
        url.query_pairs_mut()
            .append_pair("mount", digest.as_ref())
            .append_pair("from", from_repository);
        let call = Call::new(&what, Method::POST, url)
            .scope(scope.clone())
            .expecting(&[
                StatusCode::UNAUTHORIZED,
                StatusCode::FORBIDDEN,
                StatusCode::NOT_FOUND,
            ]);
        let answer = session.call(&call).await?;
        match answer.status() {
            StatusCode::CREATED => Ok(true),
            StatusCode::ACCEPTED => {
                self.cancel_upload(&session, &what, &answer, scope).await;
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// Gives up an upload that the registry has begun instead of a mount. It forgets it by itself in time.
    async fn cancel_upload(&self, session: &Session, what: &str, begun: &Answer, scope: Scope) {
        let Ok(location) = session.resolve(what, begun.url(), begun.headers().get(LOCATION)) else {
            return;
        };
        let call = Call::new(what, Method::DELETE, location).scope(scope);
        if let Err(error) = session.call_once(&call).await {
            tracing::debug!(%error, "an upload was not given up");
        }
    }

    /// Sends a blob. Ask [`Self::has_blob`] and [`Self::mount_blob`] first. `progress` is told how many bytes of it
    /// the registry has or are on their way. What was cut goes on where the registry says; it starts anew with a
    /// registry that kept nothing.
    ///
    /// # Errors
    /// What [`RegistryError`] lists; [`RegistryError::Source`] if the source fails or is too short.
    pub async fn push_blob(
        &self,
        blob: &BlobDescriptor,
        source: &dyn BlobSource,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<()> {
        let what = format!("push blob {} to {self}", blob.digest);
        let session = self.session(self.endpoints() - 1, &what).await?;
        let upload = Upload::new(source, blob.size, Arc::new(progress));
        BlobPush::new(&session, &what, self.name(), blob, upload)
            .run()
            .await
    }

    /// Sends a manifest or an index, to the byte, and gives its digest.
    ///
    /// # Errors
    /// What [`RegistryError`] lists; [`RegistryError::Digest`] if the bytes are not what a digest as reference
    /// says, or the registry made others of them.
    pub async fn push_manifest(
        &self,
        reference: &ManifestReference,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest> {
        let what = format!("push manifest {reference} to {self}");
        let digest = sha256(&bytes);
        let named = RawManifest::verified(reference, &HeaderMap::new(), bytes.clone());
        named.map_err(|error| self.not_the_manifest(&what, error))?;
        let session = self.session(self.endpoints() - 1, &what).await?;
        let media_type = HeaderValue::try_from(media_type)
            .map_err(|_| session.protocol(&what, "the manifest's media type is no header"))?;
        let url = session.url(&format!("{}/manifests/{}", self.name(), reference.checked()?));
        let call = Call::new(&what, Method::PUT, url)
            .header(CONTENT_TYPE, media_type)
            .scope(Scope::push(self.name()))
            .payload(Payload::Bytes(bytes));
        let answer = session.call(&call).await?;
        match announced(answer.headers()) {
            Some(theirs) if theirs.algorithm() == digest.algorithm() && theirs != digest => Err(self
                .damaged(
                    &what,
                    DigestMismatch {
                        expected: digest,
                        actual: theirs.to_string(),
                    },
                )),
            _ => Ok(digest),
        }
    }

    /// The name without the registry.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The registry, as references name it.
    pub fn registry(&self) -> String {
        self.0.registry.to_string()
    }

    pub(crate) fn retry_policy(&self) -> RetryPolicy {
        self.0.policy
    }

    pub(crate) fn endpoints(&self) -> usize {
        self.0.endpoints.len()
    }

    /// The session with an endpoint; the first to ask opens it.
    pub(crate) async fn session(&self, endpoint: usize, what: &str) -> Result<Arc<Session>> {
        let endpoint = &self.0.endpoints[endpoint];
        let open = || async { Session::open((endpoint.opening)(), what).await.map(Arc::new) };
        endpoint.session.get_or_try_init(open).await.cloned()
    }

    fn not_the_manifest(&self, what: &str, error: ManifestError) -> RegistryError {
        match error {
            ManifestError::Config(error) => error.into(),
            ManifestError::Digest(mismatch) => self.damaged(what, mismatch),
        }
    }

    fn damaged(&self, what: &str, mismatch: DigestMismatch) -> RegistryError {
        RegistryError::Digest {
            what: what.to_string(),
            registry: self.registry(),
            mismatch,
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` between slashes (distribution specification, "Pulling manifests").
fn is_repository_name(name: &str) -> bool {
    let separator = |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|b| b == b'-');
    let component = |component: &str| {
        let alphanumeric = |b: char| b.is_ascii_lowercase() || b.is_ascii_digit();
        let separators = component.split(alphanumeric).filter(|text| !text.is_empty());
        !component.is_empty()
            && component.starts_with(alphanumeric)
            && component.ends_with(alphanumeric)
            && separators.into_iter().all(separator)
    };
    name.len() <= MAX_NAME && name.split('/').all(component)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_of_the_specification() {
        for name in ["debian", "library/debian", "a.b/c_d/e__f/g---h", "0"] {
            assert!(is_repository_name(name), "{name}");
        }
        for name in [
            "",
            "/",
            "a//b",
            "A",
            "a/..",
            ".a",
            "a.",
            "a..b",
            "a___b",
            "a._b",
            "a b",
            "a%2f",
            "é",
            &"x".repeat(256),
        ] {
            assert!(!is_repository_name(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_name_needs_no_escape_in_a_path(name in "[a-z./_-]{0,12}") {
            if is_repository_name(&name) {
                let url: Url = format!("https://a/v2/{name}/tags").parse().unwrap();
                prop_assert_eq!(url.path(), format!("/v2/{name}/tags"));
            }
        }
    }
}
