//! A token server as registries have them: it knows users, gives out signed tokens, and `docker-registry`
//! verifies the signatures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::Url;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use system_tests::{Authority, DockerRegistry, RegistrySpec};

use crate::script::{Reply, Request, Server};

pub(crate) const SERVICE: &str = "the test's registry";
const ISSUER: &str = "the test's token server";
/// What a login of ann's gives besides a token.
pub(crate) const IDENTITY: &str = "ann's identity & all";

/// Signs tokens.
struct Signer {
    key: EcdsaKeyPair,
    random: SystemRandom,
    certificate: Vec<u8>,
    /// Seconds that are added to the clock, so that tokens can be from the past.
    shift: AtomicU64,
}

/// A registry and the server that its challenge names.
pub(crate) struct WithTokens {
    pub(crate) registry: DockerRegistry,
    pub(crate) tokens: Server,
    signer: Arc<Signer>,
}

impl WithTokens {
    /// Anybody may pull from `public`; ann, with the password `hunter2` or her identity token, may do all in
    /// all others.
    pub(crate) async fn start() -> Result<Self> {
        let authority = Authority::new(ISSUER)?;
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &authority.key_der(), &random);
        let key = key.map_err(|error| anyhow::anyhow!("{error}"))?;
        let signer = Arc::new(Signer {
            key,
            random,
            certificate: authority.der(),
            shift: AtomicU64::new(0),
        });
        let signing = signer.clone();
        let tokens = Server::start(move |request| answer(&signing, request)).await?;
        let folder = tempfile::tempdir()?;
        let bundle = folder.path().join("tokens.crt");
        std::fs::write(&bundle, authority.pem())?;
        let auth = serde_json::json!({ "token": {
            "realm": format!("http://{}/token?kept=1", tokens.host),
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": bundle,
        } });
        let spec = RegistrySpec {
            auth,
            ..RegistrySpec::default()
        };
        Ok(Self {
            registry: DockerRegistry::start(folder, spec)?,
            tokens,
            signer,
        })
    }

    /// From now on tokens have expired when they are given out, or not.
    pub(crate) fn give_out_expired(&self, expired: bool) {
        self.signer
            .shift
            .store(if expired { 7200 } else { 0 }, Ordering::SeqCst);
    }
}

fn answer(signer: &Signer, request: &Request) -> Reply {
    let url = format!("http://tokens{}", request.target);
    let mut parameters: Vec<(String, String)> = pairs(&url);
    let is_post = request.method == "POST";
    if is_post {
        parameters = pairs(&format!("form:?{}", String::from_utf8_lossy(&request.body)));
    }
    let parameter = |name: &str| {
        parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("ann:{password}")));
    let is_ann = match (is_post, request.header("authorization")) {
        (true, _) if parameter("refresh_token") == Some(IDENTITY) => true,
        (true, _) => return Reply::new(400, &[], br#"{"error":"invalid_grant"}"#),
        (false, None) => false,
        (false, Some(header)) if header == basic("hunter2") => true,
        (false, Some(_)) => return Reply::new(401, &[], br#"{"details":"incorrect username or password"}"#),
    };
    if parameter("service") != Some(SERVICE) || parameter("client_id") != Some("hull") {
        return Reply::new(400, &[], b"another service, or no client");
    }
    let scopes = parameters
        .iter()
        .filter(|(key, _)| key == "scope")
        .flat_map(|(_, value)| value.split(' '));
    let access: Vec<_> = scopes
        .filter(|scope| !scope.is_empty())
        .map(|scope| granted(scope, is_ann))
        .collect();
    let mut answer = serde_json::json!({ "token": signer.token(&access), "expires_in": 300 });
    if is_ann && parameter("offline_token") == Some("true") {
        answer["refresh_token"] = IDENTITY.into();
    }
    Reply::new(
        200,
        &[("Content-Type", "application/json")],
        answer.to_string().as_bytes(),
    )
}

fn pairs(url: &str) -> Vec<(String, String)> {
    let url: Url = url.parse().expect("a URL");
    url.query_pairs()
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect()
}

/// What of `repository:NAME:ACTIONS` is allowed.
fn granted(scope: &str, is_ann: bool) -> serde_json::Value {
    let parts: Vec<&str> = scope.split(':').collect();
    let actions = parts[2]
        .split(',')
        .filter(|action| is_ann || (parts[1] == "public" && *action == "pull"));
    serde_json::json!({ "type": parts[0], "name": parts[1], "actions": actions.collect::<Vec<_>>() })
}

impl Signer {
    /// A JSON web token with the signer's certificate in its head, as `docker-registry` verifies it.
    fn token(&self, access: &[serde_json::Value]) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("it is after 1970")
            .as_secs();
        let now = now - self.shift.load(Ordering::SeqCst);
        let head =
            serde_json::json!({ "typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&self.certificate)] });
        let claims = serde_json::json!({
            "iss": ISSUER, "sub": "ann", "aud": SERVICE, "jti": "1", "iat": now, "nbf": now - 10, "exp": now + 300,
            "access": access,
        });
        let encode = |part: &serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&head), encode(&claims));
        let signature = self
            .key
            .sign(&self.random, signed.as_bytes())
            .expect("a key signs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}
