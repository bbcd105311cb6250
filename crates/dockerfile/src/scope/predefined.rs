//! Arguments that need no `ARG`.

/// Those of a proxy, in capitals: a command sees them in capitals and in small letters.
pub(super) const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Whether an argument is of a proxy.
pub(crate) fn is_proxy(name: &str) -> bool {
    let small = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    PROXIES
        .iter()
        .any(|proxy| *proxy == name || (small && proxy.eq_ignore_ascii_case(name)))
}

/// Whether an argument tells something to the builder itself: no instruction need use it.
pub(crate) fn is_builder_argument(name: &str) -> bool {
    name == "SOURCE_DATE_EPOCH" || name.starts_with("BUILDKIT_")
}

/// Whether an argument, though declared, is no variable of a command.
pub(super) fn is_hidden(name: &str) -> bool {
    matches!(name, "BUILDKIT_SBOM_SCAN_CONTEXT" | "BUILDKIT_SBOM_SCAN_STAGE")
}
