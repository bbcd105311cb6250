//! `WWW-Authenticate`: a line a header. Whatever stands there, credentials go to a URL of HTTP, or nowhere.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: &[u8]| {
    let headers = lines.split(|byte| *byte == b'\n');
    if let Some(server) = registry::fuzzing::token_server(headers) {
        assert!(
            server.starts_with("http://") || server.starts_with("https://"),
            "{server}"
        );
        let authority = server
            .split("//")
            .nth(1)
            .and_then(|rest| rest.split(['/', '?', '#']).next());
        assert!(
            authority.is_some_and(|authority| !authority.is_empty() && !authority.contains('@')),
            "{server}"
        );
    }
});
