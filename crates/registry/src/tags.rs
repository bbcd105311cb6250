//! The tags of a repository (OCI distribution specification, "Listing Tags").

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue, LINK};
use serde::Deserialize;

use crate::call::Call;
use crate::error::{RegistryError, Result};
use crate::repository::Repository;
use crate::token::Scope;

/// The largest page in bytes.
const MAX_PAGE: u64 = 4 << 20;
/// Tags of one repository at most.
const MAX_TAGS: usize = 100_000;

#[derive(Deserialize)]
struct Page {
    /// Some registries say `null` when there are none.
    tags: Option<Vec<String>>,
}

impl Repository {
    /// All tags, in the registry's order.
    ///
    /// # Errors
    /// What [`RegistryError`] lists; [`RegistryError::TooLarge`] beyond 4 MiB a page or 100,000 tags.
    pub async fn tags(&self) -> Result<Vec<String>> {
        let what = format!("list the tags of {self}");
        let session = self.session(self.endpoints() - 1, &what).await?;
        let mut url = session.url(&format!("{}/tags/list", self.name()));
        let mut tags = Vec::new();
        loop {
            let call = Call::new(&what, Method::GET, url).scope(Scope::pull(self.name()));
            let answer = session.call(&call).await?;
            let next = next_page(answer.headers());
            let from = answer.url().clone();
            let page: Page = serde_json::from_slice(&answer.bytes(MAX_PAGE).await?).map_err(|error| {
                session.protocol(&what, format!("its list of tags is not understood: {error}"))
            })?;
            tags.extend(page.tags.unwrap_or_default());
            if tags.len() > MAX_TAGS {
                return Err(RegistryError::TooLarge {
                    what,
                    registry: self.registry(),
                    limit: MAX_TAGS as u64,
                });
            }
            match next {
                Some(next) => url = session.resolve(&what, &from, Some(&next))?,
                None => return Ok(tags),
            }
        }
    }
}

/// Where the next page is: `<URL>; rel="next"` (RFC 8288, section 3).
fn next_page(headers: &HeaderMap) -> Option<HeaderValue> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let (url, relation) = link.trim().strip_prefix('<')?.split_once('>')?;
    relation
        .contains("next")
        .then(|| HeaderValue::from_str(url).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_where_the_link_leads() {
        let next = |link: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, HeaderValue::from_static(link));
            next_page(&headers)
        };
        assert_eq!(
            next(r#"</v2/a/tags/list?last=b&n=2>; rel="next""#).unwrap(),
            "/v2/a/tags/list?last=b&n=2"
        );
        for link in ["", "</v2/a>; rel=\"prev\"", "v2/a; rel=next", "</v2/a"] {
            assert_eq!(next(link), None, "{link}");
        }
    }
}
