//! The tags of a repository, page by page (distribution specification, "Listing tags").

use std::collections::BTreeSet;

use reqwest::header::{HeaderMap, LINK};
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::call::Call;
use crate::error::{RegistryError, Result};
use crate::manifest::is_tag;
use crate::repository::Repository;
use crate::token::Scope;

/// Bytes of one page.
const MAX_PAGE: u64 = 4 << 20;
/// Tags of a repository; the largest that are known have some ten thousand.
const MAX_TAGS: usize = 100_000;
/// Pages that bring fewer tags than this on average are a game.
const MAX_PAGES: usize = 2_000;

#[derive(Deserialize)]
struct Page {
    /// Some registries say `null` for none.
    tags: Option<Vec<String>>,
}

impl Repository {
    /// All tags, in order. What is no tag is left out.
    ///
    /// # Errors
    /// What [`RegistryError`] lists; [`RegistryError::Protocol`] if the list does not end.
    pub async fn tags(&self) -> Result<Vec<String>> {
        let what = format!("list the tags of {self}");
        let session = self.session(self.endpoints() - 1, &what).await?;
        let mut tags = BTreeSet::new();
        let mut next = Some(session.url(&format!("{}/tags/list", self.name())));
        for _ in 0..MAX_PAGES {
            let Some(url) = next else {
                return Ok(tags.into_iter().collect());
            };
            let call = Call::new(&what, Method::GET, url.clone()).scope(Scope::pull(self.name()));
            let answer = session.call(&call).await?;
            next = following(&url, answer.headers());
            let page: Page = serde_json::from_slice(&answer.bytes(MAX_PAGE).await?)
                .map_err(|_| session.protocol(&what, "its answer is no list of tags"))?;
            tags.extend(
                page.tags
                    .unwrap_or_default()
                    .into_iter()
                    .filter(|tag| is_tag(tag)),
            );
            if tags.len() > MAX_TAGS {
                break;
            }
        }
        let (what, registry) = (what, self.registry());
        Err(RegistryError::Protocol {
            what,
            registry,
            reason: "its list of tags does not end".into(),
        })
    }
}

/// The next page: `Link: <URL>; rel="next"` (RFC 8288), of the same server.
fn following(url: &Url, headers: &HeaderMap) -> Option<Url> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.contains("rel=\"next\"") || parameters.contains("rel=next");
    let next = url.join(target).ok()?;
    (is_next && next.origin() == url.origin()).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn the_next_page_is_of_the_same_server() {
        let url: Url = "https://a.example/v2/app/tags/list".parse().unwrap();
        for (link, expected) in [
            (
                "</v2/app/tags/list?last=b&n=2>; rel=\"next\"",
                Some("https://a.example/v2/app/tags/list?last=b&n=2"),
            ),
            ("<https://a.example/x>; rel=next", Some("https://a.example/x")),
            ("<https://b.example/x>; rel=\"next\"", None),
            ("</x>; rel=\"prev\"", None),
            ("</x", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(LINK, HeaderValue::from_static(link))]);
            assert_eq!(
                following(&url, &headers).as_ref().map(Url::as_str),
                expected,
                "{link}"
            );
        }
    }
}
