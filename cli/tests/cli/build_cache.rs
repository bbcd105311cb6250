//! The build cache: `hull builder du` and `hull builder prune`.

use serde_json::json;

use crate::api::{Answer, Api};
use crate::{hull, transcript};

fn daemon() -> Api {
    Api::serve(|request| match request.line.starts_with("POST") {
        true => {
            let pruned = json!({"CachesDeleted": ["aaaa", "bbbb"], "SpaceReclaimed": 1500});
            Answer::Json(200, pruned.to_string())
        }
        false => {
            let record = |id: &str, in_use, shared, size| {
                json!({
                    "ID": id, "Type": "regular", "Description": "RUN make", "InUse": in_use, "Shared": shared,
                    "Size": size, "CreatedAt": "2001-02-03T04:05:06Z", "LastUsedAt": null, "UsageCount": 3,
                })
            };
            let records = [record("aaaa", false, false, 2000), record("bbbb", true, true, 40)];
            Answer::Json(200, json!({"BuildCache": records}).to_string())
        }
    })
}

#[test]
fn what_the_cache_holds_is_listed() {
    let api = daemon();
    for (name, arguments) in [
        ("builder-du", vec!["builder", "du"]),
        (
            "builder-du-json",
            vec!["builder", "du", "--format", "{{json .ID}} {{.Size}}"],
        ),
        ("df-cache", vec!["system", "df"]),
    ] {
        let output = hull(&api, &arguments).output().unwrap();
        insta::assert_snapshot!(name, transcript(&output));
    }
    assert_eq!(api.request_lines()[1], "GET /system/df?type=build-cache");
    let output = hull(&api, &["builder", "du", "--verbose"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("RUN make") && text.contains("years ago"), "{text}");
}

#[test]
fn what_is_unused_is_removed() {
    let api = daemon();
    let arguments = [
        "builder",
        "prune",
        "-a",
        "-f",
        "--filter",
        "until=24h",
        "--keep-storage",
        "1k",
    ];
    let output = hull(&api, &arguments).output().unwrap();
    insta::assert_snapshot!("builder-prune", transcript(&output));
    assert_eq!(
        api.request_lines(),
        ["POST /build/prune?all=1&filters=%7B%22until%22%3A%5B%2224h%22%5D%7D&reserved-space=1024"]
    );
    let output = hull(&api, &["builder", "prune"]).output().unwrap();
    insta::assert_snapshot!("builder-prune-refused", transcript(&output));
    assert_eq!(api.request_lines().len(), 1);
}
