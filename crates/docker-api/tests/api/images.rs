//! The image that comes with hull.

use anyhow::Result;
use serde_json::json;

use crate::server::Server;

#[test]
fn the_image_is_listed_and_inspected_by_each_of_its_names() -> Result<()> {
    let server = Server::start()?;
    let list = server.get("/images/json")?.json()?;
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["RepoTags"], json!(["localhost/busybox:latest"]));
    assert_eq!(list[0]["Created"], 1_704_164_645);
    let id = list[0]["Id"].as_str().unwrap();
    let digest = list[0]["RepoDigests"][0].as_str().unwrap();
    assert!(
        id.starts_with("sha256:") && digest.starts_with("localhost/busybox@sha256:"),
        "{list}"
    );
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
fn an_image_nobody_has_is_404_and_cannot_be_pulled() -> Result<()> {
    let server = Server::start()?;
    let answer = server.get("/images/nosuch/json")?;
    assert_eq!(
        (answer.status, answer.message()?.as_str()),
        (404, "No such image: nosuch:latest")
    );
    let answer = server.post("/images/create?fromImage=nosuch&tag=1", None)?;
    assert_eq!(answer.status, 501);
    assert!(
        answer.message()?.starts_with("No such image: nosuch:1"),
        "{answer:?}"
    );
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
