//! The build cache: what was built before is not built again.

use anyhow::{Result, ensure};
use system_tests::{Hull, hull};

use super::api::{Answer, Image, Request, archive, build};
use super::comparison::bring_debian;
use super::context::{pack, prepare};
use super::entries::{Entry, wanted};
use super::workers::complaints;

#[test]
fn each_entry_is_the_same_image_when_it_is_built_again_and_all_of_it_comes_from_the_cache() -> Result<()> {
    let hull = hull!();
    bring_debian(&hull);
    let found = complaints(&wanted()?, Entry::name, |entry| {
        let first = Image::new(&hull, &format!("cache-first-{}", entry.name));
        let image = Image::new(&hull, &format!("cache-{}", entry.name));
        let ids = [
            build_all(&hull, entry, &first, &image)?,
            build_all(&hull, entry, &first, &image)?,
        ];
        let [before, after] = &ids;
        let mut complaints: Vec<String> = after
            .layers()
            .into_iter()
            .filter(|(_, is_cached)| !is_cached)
            .map(|(step, _)| format!("made again: {step}"))
            .collect();
        if before.image()? != after.image()? {
            complaints.push(format!("{} became {}", before.image()?, after.image()?));
        }
        Ok(complaints)
    });
    assert!(found.is_empty(), "\n{found}");
    Ok(())
}

/// Each time from files that were made anew, with times of their own.
fn build_all(hull: &Hull, entry: &Entry, first: &Image<'_>, image: &Image<'_>) -> Result<Answer> {
    let context = pack(prepare(entry)?.path())?;
    let mut options = entry.options.clone();
    if let Some(dockerfile) = entry.first() {
        let request = Request {
            dockerfile,
            name: &first.name,
            options: options.clone(),
        };
        build(hull, &request, &context)?.image()?;
        options = options.on(&first.name);
    }
    let request = Request {
        dockerfile: "Dockerfile",
        name: &image.name,
        options,
    };
    let answer = build(hull, &request, &context)?;
    answer.image()?;
    Ok(answer)
}

#[test]
fn what_follows_a_change_is_made_again_and_nothing_else() -> Result<()> {
    let hull = hull!();
    let image = Image::new(&hull, "cache-change");
    // Unlike any other build's: what an earlier run of this test has left in the cache is of no use.
    let own = format!("{:?}", std::time::SystemTime::now());
    let built = |dockerfile: &str, changed: &str, aside: &str| -> Result<Vec<bool>> {
        let files = [
            ("Dockerfile", dockerfile),
            ("own", own.as_str()),
            ("changed", changed),
            ("aside", aside),
        ];
        let request = Request {
            dockerfile: "Dockerfile",
            name: &image.name,
            ..Request::default()
        };
        let answer = build(&hull, &request, &archive(&files)?)?;
        answer.image()?;
        let layers = answer.layers();
        ensure!(layers.len() == 4, "{layers:?}");
        Ok(layers.into_iter().map(|(_, is_cached)| is_cached).collect())
    };
    let dockerfile =
        "FROM localhost/busybox\nCOPY own /\nRUN cat /own >/copy\nCOPY changed /\nRUN cat /changed >/later\n";
    assert_eq!(built(dockerfile, "1", "1")?, [false; 4]);
    assert_eq!(
        built(dockerfile, "1", "2")?,
        [true; 4],
        "nothing copies the file that changed"
    );
    assert_eq!(built(dockerfile, "2", "2")?, [true, true, false, false]);
    assert_eq!(
        built(dockerfile, "1", "2")?,
        [true; 4],
        "what was before is still there"
    );
    let other = dockerfile.replace("/later", "/other");
    assert_eq!(built(&other, "1", "2")?, [true, true, true, false]);
    let environment = dockerfile.replace("RUN cat /own", "ENV a=b\nRUN cat /own");
    assert_eq!(
        built(&environment, "1", "2")?[..2],
        [true, false],
        "a command sees its environment"
    );
    let label = dockerfile.replace("RUN cat /own", "LABEL a=b\nRUN cat /own");
    assert_eq!(
        built(&label, "1", "2")?,
        [true; 4],
        "a label is nothing that a command sees"
    );
    Ok(())
}
