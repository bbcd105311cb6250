//! Which of an index's images suits a platform, by the rules that Docker and containerd follow.

use oci_spec::image::{Arch, Descriptor, ImageIndex, Os, Platform, PlatformBuilder};

/// Not a platform's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no platform; it must be OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm/v7")]
pub struct PlatformError(String);

/// An index without an image for the platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no matching manifest for {wanted} in the manifest list entries; there {}",
    match .available.as_slice() { [] => "are none".to_string(), some => format!("is {}", some.join(", ")) }
)]
pub struct NoSuchPlatform {
    /// The platform that was asked for: `linux/arm/v7`.
    pub wanted: String,
    /// The platforms of the index, in its order, each once.
    pub available: Vec<String>,
}

/// Platforms that a message lists; an index can hold thousands.
const MAX_LISTED: usize = 32;
/// Bytes of a platform's name.
const MAX_PLATFORM: usize = 128;

/// Reads `OS/ARCHITECTURE[/VARIANT]`, or one of them alone, with Docker's other names for the same things
/// (`aarch64`, `x86_64`, `armhf`).
///
/// # Errors
/// The text is not of that form.
pub fn parse_platform(text: &str) -> Result<Platform, PlatformError> {
    let refuse = || PlatformError(text.chars().take(MAX_PLATFORM).collect());
    let valid = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    };
    let parts: Vec<&str> = text.split('/').collect();
    if text.len() > MAX_PLATFORM || !parts.iter().all(|part| valid(part)) {
        return Err(refuse());
    }
    let (os, architecture, variant) = match *parts {
        [one] if is_os(one) => (one, std::env::consts::ARCH, ""),
        [one] => ("linux", one, ""),
        [os, architecture] => (os, architecture, ""),
        [os, architecture, variant] => (os, architecture, variant),
        _ => return Err(refuse()),
    };
    let key = Key::new(os, architecture, variant);
    if parts.len() == 1 && !is_os(parts[0]) && !is_architecture(&key.architecture) {
        return Err(refuse());
    }
    let builder = PlatformBuilder::default()
        .os(Os::from(key.os.as_str()))
        .architecture(Arch::from(key.architecture.as_str()));
    let builder = match key.variant.as_str() {
        "" => builder,
        variant => builder.variant(variant),
    };
    builder.build().map_err(|_| refuse())
}

/// The image of `index` that suits `wanted` best: the same platform, else the nearest variant that the same
/// processor runs (`arm/v7` runs v6 and v5, `arm64` runs 32-bit arm, `amd64/v3` runs v2, v1 and 386).
/// Entries that are no images (attestations: `unknown/unknown`) are passed over; of equals the first wins.
///
/// # Errors
/// No image suits; the error says which there are.
pub fn choose_platform(index: &ImageIndex, wanted: &Platform) -> Result<Descriptor, NoSuchPlatform> {
    let wanted = Key::of(wanted);
    let images = || {
        let entries = index.manifests().iter();
        entries.filter_map(|entry| Some((Key::of(entry.platform().as_ref()?), entry)))
    };
    for acceptable in wanted.acceptable() {
        if let Some((_, entry)) = images().find(|(key, _)| *key == acceptable) {
            return Ok(entry.clone());
        }
    }
    let mut available: Vec<String> = Vec::new();
    for (key, _) in images().filter(|(key, _)| key.os != "unknown") {
        let name = key.to_string();
        if available.len() < MAX_LISTED && !available.contains(&name) {
            available.push(name);
        }
    }
    Err(NoSuchPlatform {
        wanted: wanted.to_string(),
        available,
    })
}

/// Whether an image for the platform `image` is one that is meant by `wanted`: the same, or the nearest that the same
/// processor runs, as in [`choose_platform`]. An image that says no variant may be any.
pub fn suits(image: &Platform, wanted: &Platform) -> bool {
    let says_none = image.variant().as_deref().unwrap_or_default().is_empty();
    let (image, wanted) = (Key::of(image), Key::of(wanted));
    wanted.acceptable().contains(&image)
        || (says_none && image.os == wanted.os && image.architecture == wanted.architecture)
}

/// `OS/ARCHITECTURE[/VARIANT]`, in the names that Docker uses.
pub fn describe_platform(platform: &Platform) -> String {
    Key::of(platform).to_string()
}

/// A platform in its normal form: `arm` has a variant, the default variants of `arm64` and `amd64` are not said.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    os: String,
    architecture: String,
    variant: String,
}

impl Key {
    fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let (os, architecture, variant) = (
            os.to_ascii_lowercase(),
            architecture.to_ascii_lowercase(),
            variant.to_ascii_lowercase(),
        );
        let os = if os == "macos" { "darwin" } else { os.as_str() };
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            other => other,
        };
        Self {
            os: os.to_string(),
            architecture: architecture.to_string(),
            variant: variant.to_string(),
        }
    }

    fn of(platform: &Platform) -> Self {
        let bounded = |text: String| {
            text.chars()
                .filter(|c| !c.is_control())
                .take(MAX_PLATFORM)
                .collect::<String>()
        };
        let variant = platform.variant().clone().unwrap_or_default();
        Self::new(
            &bounded(platform.os().to_string()),
            &bounded(platform.architecture().to_string()),
            &bounded(variant),
        )
    }

    /// What a processor of this kind runs, best first.
    fn acceptable(&self) -> Vec<Self> {
        let with = |architecture: &str, variant: &str| Self {
            os: self.os.clone(),
            architecture: architecture.to_string(),
            variant: variant.to_string(),
        };
        let below = |architecture: &str, variant: &str, least: u8| -> Vec<Self> {
            let level = variant
                .strip_prefix('v')
                .and_then(|level| level.parse::<u8>().ok());
            let levels = (least..level.unwrap_or(0)).rev();
            levels
                .map(|level| Self {
                    variant: format!("v{level}"),
                    ..with(architecture, "")
                })
                .collect()
        };
        let mut acceptable = vec![self.clone()];
        match (self.architecture.as_str(), self.variant.as_str()) {
            ("amd64", variant) => {
                acceptable.extend(below("amd64", variant, 2));
                if !variant.is_empty() {
                    acceptable.push(with("amd64", ""));
                }
                acceptable.push(with("386", ""));
            }
            ("arm", variant) => acceptable.extend(below("arm", variant, 5)),
            ("arm64", variant) => {
                acceptable.extend(below("arm64", variant, 9));
                if !variant.is_empty() {
                    acceptable.push(with("arm64", ""));
                }
                acceptable.extend(below("arm", "v9", 5));
            }
            _ => {}
        }
        acceptable
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_str() {
            "" => Ok(()),
            variant => write!(f, "/{variant}"),
        }
    }
}

fn is_os(name: &str) -> bool {
    const SYSTEMS: [&str; 8] = [
        "linux", "windows", "darwin", "macos", "freebsd", "netbsd", "openbsd", "solaris",
    ];
    SYSTEMS.contains(&name.to_ascii_lowercase().as_str())
}

fn is_architecture(name: &str) -> bool {
    const ARCHITECTURES: [&str; 11] = [
        "386", "amd64", "arm", "arm64", "loong64", "mips64le", "mipsle", "ppc64le", "riscv64", "s390x",
        "wasm",
    ];
    ARCHITECTURES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An index whose entries have the sizes 0, 1, … in the order of the platforms.
    fn index(platforms: &[&str]) -> ImageIndex {
        let entries = platforms.iter().enumerate().map(|(size, platform)| {
            let parts: Vec<&str> = platform.split('/').collect();
            let mut entry = serde_json::json!({
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "digest": format!("sha256:{:064x}", size),
                "size": size,
                "platform": { "os": parts[0], "architecture": parts[1] },
            });
            if let Some(variant) = parts.get(2) {
                entry["platform"]["variant"] = (*variant).into();
            }
            entry
        });
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": entries.collect::<Vec<_>>() });
        serde_json::from_value(index).unwrap()
    }

    fn chosen(platforms: &[&str], wanted: &str) -> Option<u64> {
        let wanted = parse_platform(wanted).unwrap();
        choose_platform(&index(platforms), &wanted)
            .ok()
            .map(|entry| entry.size())
    }

    #[test]
    fn the_same_platform_is_chosen_wherever_it_stands() {
        let all = [
            "linux/amd64",
            "linux/arm/v5",
            "linux/arm/v7",
            "linux/arm64/v8",
            "linux/386",
            "windows/amd64",
        ];
        for (wanted, size) in [
            ("linux/amd64", 0),
            ("linux/x86_64", 0),
            ("linux/arm/v5", 1),
            ("linux/arm", 2),
            ("linux/armhf", 2),
            ("linux/arm64", 3),
            ("linux/aarch64", 3),
            ("arm64", 3),
            ("linux/i386", 4),
            ("windows/amd64", 5),
        ] {
            assert_eq!(chosen(&all, wanted), Some(size), "{wanted}");
        }
    }

    #[test]
    fn the_nearest_variant_that_the_processor_runs_is_chosen() {
        assert_eq!(chosen(&["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7"), Some(1));
        assert_eq!(chosen(&["linux/arm/v7"], "linux/arm/v6"), None);
        assert_eq!(chosen(&["linux/arm/v6", "linux/arm/v7"], "linux/arm64"), Some(1));
        assert_eq!(
            chosen(&["linux/386", "linux/amd64", "linux/amd64/v2"], "linux/amd64/v3"),
            Some(2)
        );
        assert_eq!(chosen(&["linux/386"], "linux/amd64"), Some(0));
        assert_eq!(chosen(&["linux/amd64/v3"], "linux/amd64"), None);
    }

    #[test]
    fn an_image_suits_its_own_platform_and_what_runs_it() {
        let platform = |text| parse_platform(text).unwrap();
        for (image, wanted, expected) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/x86_64", true),
            ("linux/386", "linux/amd64", true),
            ("linux/arm/v7", "linux/arm/v6", false),
            ("linux/arm/v6", "linux/arm/v7", true),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/amd64", "linux/amd64/v3", true),
            ("linux/amd64", "linux/arm64", false),
            ("linux/amd64/v3", "linux/amd64", false),
            ("windows/amd64", "linux/amd64", false),
            ("linux/arm64", "linux/arm/v7", false),
        ] {
            let suits = suits(&platform(image), &platform(wanted));
            assert_eq!(suits, expected, "{image} for {wanted}");
        }
        assert_eq!(describe_platform(&platform("linux/aarch64")), "linux/arm64");
    }

    #[test]
    fn an_index_without_the_platform_says_which_there_are() {
        let index = index(&[
            "linux/amd64",
            "linux/arm64/v8",
            "linux/arm/v7",
            "linux/amd64",
            "unknown/unknown",
        ]);
        let error = choose_platform(&index, &parse_platform("linux/s390x").unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no matching manifest for linux/s390x in the manifest list entries; there is linux/amd64, linux/arm64, linux/arm/v7"
        );
        let none = choose_platform(&super::tests::index(&[]), &parse_platform("linux/amd64").unwrap());
        assert!(none.unwrap_err().to_string().ends_with("; there are none"));
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for text in [
            "",
            "/",
            "linux/",
            "linux/arm/v7/x",
            "linux/a b",
            "nonsense",
            "linux/\u{1b}",
        ] {
            assert!(parse_platform(text).is_err(), "{text:?}");
        }
    }
}
