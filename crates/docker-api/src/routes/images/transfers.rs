//! Pulling and pushing.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use engine::{Engine, PullRequest, PushRequest, RegistryCredentials, TransferEvents};

use super::archives;
use super::registry_auth::credentials;
use crate::error::ApiError;
use crate::progress::{self, Transfers};
use crate::query::Params;

/// `POST /images/create`: pulls `fromImage`, or imports the body.
pub(in crate::routes) async fn create(
    State(engine): State<Engine>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let Some(image) = params.text("fromImage") else {
        return archives::import(&engine, &params, body).await;
    };
    let credentials = credentials(&headers);
    let requests = requests(&engine, image, &params, credentials).await?;
    let mut requests = requests.into_iter();
    let Some(first) = requests.next() else {
        return Err(ApiError::bad_request(format!(
            "the repository {image} has no tags"
        )));
    };
    // What goes wrong before anything is told has a status.
    let first = engine.pull(&first).await?;
    Ok(progress::response(Pulls {
        engine,
        first: Some(first),
        rest: requests,
    }))
}

/// One pull, or one for each tag of the repository when none is named.
async fn requests(
    engine: &Engine,
    image: &str,
    params: &Params,
    credentials: RegistryCredentials,
) -> Result<Vec<PullRequest>, ApiError> {
    let request = |name: String| PullRequest {
        name,
        platform: params.text("platform").map(str::to_owned),
        credentials: credentials.clone(),
    };
    let named = image.contains('@') || !super::split_tag(image).1.is_empty();
    Ok(match params.text("tag") {
        // A tag with a digest behind it is the digest's.
        Some(tag) if tag.contains(':') => {
            let digest = tag.rsplit('@').next().unwrap_or(tag);
            vec![request(format!("{image}@{digest}"))]
        }
        Some(tag) => vec![request(format!("{image}:{tag}"))],
        None if named => vec![request(image.to_owned())],
        None => {
            let tags = engine.remote_tags(image, credentials.clone()).await?;
            tags.into_iter()
                .map(|tag| request(format!("{image}:{tag}")))
                .collect()
        }
    })
}

/// Pulls one behind the other.
struct Pulls {
    engine: Engine,
    first: Option<TransferEvents<()>>,
    rest: std::vec::IntoIter<PullRequest>,
}

impl Transfers for Pulls {
    type End = ();

    async fn next(&mut self) -> Option<Result<TransferEvents<()>, ApiError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        let request = self.rest.next()?;
        Some(self.engine.pull(&request).await.map_err(ApiError::from))
    }
}

/// `POST /images/{name}/push`
pub(super) async fn push(
    engine: &Engine,
    name: &str,
    params: &Params,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let request = PushRequest {
        name: name.to_owned(),
        tag: params.text("tag").map(str::to_owned),
        credentials: credentials(headers),
    };
    let pushing = engine.push(&request).await?;
    Ok(progress::response(progress::One::new(pushing)))
}
