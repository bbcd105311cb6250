//! The image that comes with hull.

use anyhow::Result;
use serde_json::{Value, json};

use crate::server::Server;

#[test]
fn the_image_is_listed_and_inspected_by_each_of_its_names() -> Result<()> {
    let server = Server::start()?;
    let list = server.get("/images/json")?.json()?;
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["RepoTags"], json!(["localhost/busybox:latest"]));
    assert_eq!(list[0]["Created"], 1_704_164_645);
    let id = list[0]["Id"].as_str().unwrap();
    assert!(id.starts_with("sha256:"), "{list}");
    assert_eq!(list[0]["RepoDigests"], json!([]), "no registry has it");
    for name in [
        "busybox",
        "localhost/busybox",
        "localhost%2Fbusybox:latest",
        id,
        &id[7..19],
    ] {
        let answer = server.get(&format!("/images/{name}/json"))?;
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        let image = answer.json()?;
        assert_eq!(image["Id"], id);
        assert_eq!(image["Config"]["Cmd"], json!(["sh"]));
        assert_eq!(image["Config"]["Labels"]["flavour"], "test");
        assert_eq!(image["Os"], "linux");
    }
    Ok(())
}

#[test]
fn an_image_nobody_has_is_404_and_a_pull_says_what_is_wrong() -> Result<()> {
    let server = Server::start()?;
    let answer = server.get("/images/nosuch/json")?;
    assert_eq!(
        (answer.status, answer.message()?.as_str()),
        (404, "No such image: nosuch:latest")
    );
    let answer = server.post("/images/create?fromImage=registry.invalid/nosuch&tag=1", None)?;
    assert_eq!(answer.status, 500);
    assert!(
        answer
            .message()?
            .contains("the name registry.invalid cannot be resolved"),
        "{answer:?}"
    );
    for (target, message) in [
        ("/images/create?fromImage=A&tag=1", "invalid reference format"),
        (
            "/images/create?fromImage=a&tag=1&platform=linux%2F",
            "is no platform",
        ),
        ("/images/create", "neither fromImage nor fromSrc was given"),
        ("/images/create?fromSrc=-&changes=RUN+x", "invalid change 'RUN x'"),
        ("/images/busybox/tag", "no repository was named"),
        ("/images/busybox/tag?repo=B", "invalid reference format"),
        (
            "/images/prune?filters=%7B%22dangling%22%3A%5B%22x%22%5D%7D",
            "invalid filter 'dangling=x'",
        ),
    ] {
        let answer = server.post(target, None)?;
        assert_eq!(answer.status, 400, "{target}: {answer:?}");
        assert!(answer.message()?.contains(message), "{answer:?}");
    }
    Ok(())
}

#[test]
fn images_are_filtered_by_reference() -> Result<()> {
    let server = Server::start()?;
    let count = |pattern: &str| -> Result<usize> {
        let target = format!("/images/json?filters=%7B%22reference%22%3A%5B%22{pattern}%22%5D%7D");
        Ok(server.get(&target)?.json()?.as_array().unwrap().len())
    };
    assert_eq!(count("localhost%2Fbusy*")?, 1);
    assert_eq!(count("debian")?, 0);
    Ok(())
}

#[test]
fn an_image_gets_names_and_goes_with_the_last() -> Result<()> {
    let server = Server::start()?;
    let answer = server.post("/images/busybox/tag?repo=registry:5000/a/b&tag=1", None)?;
    assert_eq!(answer.status, 201, "{answer:?}");
    let image = server.get("/images/registry:5000/a/b:1/json")?.json()?;
    assert_eq!(
        image["RepoTags"],
        json!(["localhost/busybox:latest", "registry:5000/a/b:1"])
    );
    for field in ["RootFS", "GraphDriver", "Metadata", "Descriptor", "Config"] {
        assert!(image[field].is_object(), "{field}: {image}");
    }
    // Its configuration tells no history.
    assert_eq!(server.get("/images/busybox/history")?.json()?, json!([]));
    let container = server.create("app", &json!({"Image": "registry:5000/a/b:1"}))?;
    let id = image["Id"].as_str().unwrap();
    let untagged = server.request("DELETE", "/images/registry:5000/a/b:1", None)?;
    assert_eq!(untagged.json()?, json!([{"Untagged": "registry:5000/a/b:1"}]));
    // The name that the container was made with is none of its image any more.
    let listed = server.get("/containers/json?all=1")?.json()?;
    assert_eq!(
        (&listed[0]["Image"], &listed[0]["ImageID"]),
        (&json!(id), &json!(id))
    );
    let refused = server.request("DELETE", "/images/busybox", None)?;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.message()?.contains(&container[..12]), "{refused:?}");
    assert_eq!(
        server.post("/containers/prune", None)?.json()?["ContainersDeleted"],
        json!([container])
    );
    let removed = server.request("DELETE", "/images/busybox", None)?.json()?;
    assert_eq!(removed[0], json!({"Untagged": "localhost/busybox:latest"}));
    assert!(
        removed.as_array().unwrap().contains(&json!({"Deleted": id})),
        "{removed}"
    );
    assert_eq!(server.get("/images/json")?.json()?, json!([]));
    Ok(())
}

#[test]
fn the_disk_usage_and_the_check_cover_what_is_there() -> Result<()> {
    let server = Server::start()?;
    server.create("app", &json!({"Image": "busybox"}))?;
    let usage = server.get("/system/df")?.json()?;
    assert_eq!(usage["Images"][0]["Containers"], 1);
    assert_eq!(usage["Images"][0]["SharedSize"], 0);
    assert_eq!(usage["Images"][0]["Size"], usage["LayersSize"]);
    assert!(usage["Containers"][0]["SizeRw"].is_u64(), "{usage}");
    let images = server.get("/system/df?type=image&type=volume")?.json()?;
    assert_eq!(images["Images"], usage["Images"]);
    assert_eq!(
        (&images["Containers"], &images["Volumes"]),
        (&Value::Null, &json!([]))
    );
    let refused = server.get("/system/df?type=shoe")?;
    assert_eq!(
        (refused.status, refused.message()?.as_str()),
        (400, "unknown object type: shoe")
    );
    let report = server.post("/hull/system/check", None)?.json()?;
    assert_eq!((&report["Images"], &report["Problems"]), (&json!(1), &json!([])));
    let pruned = server.post("/images/prune", None)?.json()?;
    assert_eq!(pruned, json!({"ImagesDeleted": null, "SpaceReclaimed": 0}));
    Ok(())
}
