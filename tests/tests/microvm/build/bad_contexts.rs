//! Build contexts that lead out of themselves, name what no layer can have, or are no archives.

use std::fs::File;
use std::io::Read;

use anyhow::Result;
use system_tests::hull;
use tar::{Builder, EntryType, Header};

use super::api::{archive, listing};
use super::errors::{FROM, of_archive, refused};

/// An entry of an archive: its name as it is, which the library would not write, its kind, and what it links to.
fn entry(
    archive: &mut Builder<Vec<u8>>,
    name: &str,
    kind: EntryType,
    link: &str,
    content: &[u8],
) -> Result<()> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    if matches!(kind, EntryType::Char | EntryType::Block) {
        header.set_device_major(1)?;
        header.set_device_minor(3)?;
    }
    header.set_cksum();
    Ok(archive.append(&header, content)?)
}

/// A context of a Dockerfile and one more entry.
fn with_entry(dockerfile: &str, name: &str, kind: EntryType, link: &str) -> Result<Vec<u8>> {
    let mut context = Builder::new(Vec::new());
    entry(
        &mut context,
        "Dockerfile",
        EntryType::Regular,
        "",
        dockerfile.as_bytes(),
    )?;
    entry(&mut context, name, kind, link, b"")?;
    Ok(context.into_inner()?)
}

#[test]
fn no_context_leads_out_of_itself() -> Result<()> {
    let hull = hull!();
    let copying = |what: &str| format!("{FROM}COPY {what} /copied\n");
    // What is in the archive.
    for (name, kind, link, says) in [
        ("../out", EntryType::Regular, "", "leads out of it"),
        ("a/../../out", EntryType::Regular, "", "leads out of it"),
        ("hard", EntryType::Link, "../../etc/passwd", "leads out of it"),
        (
            "hard",
            EntryType::Link,
            "/etc/passwd",
            "which is not a file in it",
        ),
        (
            "Dockerfile/in",
            EntryType::Regular,
            "",
            "lies beneath something that is no directory",
        ),
    ] {
        let answer = of_archive(&hull, &with_entry(&copying("Dockerfile"), name, kind, link)?)?;
        assert_eq!(answer.status, 400, "{name}: {answer:?}");
        refused(name, &answer, says, None);
    }
    // What a COPY names: the context is the root of all paths in it, and of the links in it.
    for what in ["../../etc/passwd", "/etc/passwd", "link", "link/passwd"] {
        for target in ["/etc/passwd", "../../../../etc/passwd", "../../../../etc", "link"] {
            let context = with_entry(&copying(what), "link", EntryType::Symlink, target)?;
            let answer = of_archive(&hull, &context)?;
            let is_loop = target == "link" && what.starts_with("link");
            let says = if is_loop { "too many levels" } else { "not found" };
            refused(&format!("{what} with {target}"), &answer, says, Some(2));
        }
    }
    Ok(())
}

#[test]
fn what_a_layer_has_no_name_for_is_no_part_of_it() -> Result<()> {
    let hull = hull!();
    let copy_all = format!("{FROM}COPY . /all/\n");
    for name in [".wh.passwd", ".wh..wh..opq"] {
        let answer = of_archive(&hull, &with_entry(&copy_all, name, EntryType::Regular, "")?)?;
        refused(
            name,
            &answer,
            "names that begin with .wh. mark what a layer removes",
            Some(2),
        );
        // A context may have it, if nothing copies it.
        let answer = of_archive(
            &hull,
            &with_entry(&copying_itself(), name, EntryType::Regular, "")?,
        )?;
        answer.image()?;
    }
    // A socket has no kind of its own in a tar archive; clients leave it out, and a kind that nobody knows is refused.
    let answer = of_archive(&hull, &with_entry(&copy_all, "socket", EntryType::new(b's'), "")?)?;
    assert_eq!(answer.status, 400, "{answer:?}");
    // Devices are files like any other.
    let device = with_entry(&format!("{FROM}COPY null /null\n"), "null", EntryType::Char, "")?;
    let answer = of_archive(&hull, &device)?;
    let listing = listing(&hull, answer.image()?)?;
    assert_eq!(listing.get("/null").map(String::as_str), Some("char 644 0:0 1:3"));
    Ok(())
}

fn copying_itself() -> String {
    format!("{FROM}COPY Dockerfile /\n")
}

#[test]
fn what_is_no_archive_is_refused() -> Result<()> {
    let hull = hull!();
    let mut noise = vec![0; 4096];
    File::open("/dev/urandom")?.read_exact(&mut noise)?;
    let whole = archive(&[("Dockerfile", FROM), ("file", &"x".repeat(10_000))])?;
    for (what, context) in [("noise", noise.as_slice()), ("half of one", &whole[..6000])] {
        let answer = of_archive(&hull, context)?;
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
        refused(what, &answer, "cannot read the build context", None);
    }
    let answer = of_archive(&hull, &archive(&[("other", "x")])?)?;
    refused(
        "no Dockerfile",
        &answer,
        "Cannot locate specified Dockerfile: Dockerfile",
        None,
    );
    Ok(())
}
