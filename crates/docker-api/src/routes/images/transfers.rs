//! Pulling and pushing.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use engine::{Engine, ImageEvent, PullRequest, PushRequest, RegistryCredentials, TransferEvents};

use super::registry_auth::credentials;
use super::{archives, platform};
use crate::error::ApiError;
use crate::progress::{self, Events};
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
        current: first,
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
    let platform = platform::one(params)?;
    let request = |name: String| PullRequest {
        name,
        platform: platform.clone(),
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
    current: TransferEvents,
    rest: std::vec::IntoIter<PullRequest>,
}

impl Events for Pulls {
    async fn next(&mut self) -> Option<Result<Vec<ImageEvent>, ApiError>> {
        loop {
            if let Some(told) = Events::next(&mut self.current).await {
                return Some(told);
            }
            let request = self.rest.next()?;
            match self.engine.pull(&request).await {
                Ok(next) => self.current = next,
                Err(error) => return Some(Err(error.into())),
            }
        }
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
        platform: platform::one(params)?,
        credentials: credentials(headers),
    };
    Ok(progress::response(engine.push(&request).await?))
}
