//! Saving, loading and importing archives, ours and those of others.

mod fixture;

use fixture::{Layout, Store, TAR, Tar, content, gzip, open_layer, with_name, with_platform};
use image_store::{Digest, Image, ImageConfiguration, LayerProgress, Loaded, Reference, WantedPlatform};
use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use tar::{EntryType, Header};

fn layer(text: &str) -> Vec<u8> {
    Tar::new().file("file", text.as_bytes()).finish()
}

fn import(store: &Store, name: &str, compress: bool) -> Image {
    let layout = Layout::new();
    let archives = [layer("one"), layer("two")];
    let diff_ids: Vec<Digest> = archives.iter().map(|archive| Digest::of(archive)).collect();
    let layers: Vec<Value> = archives
        .iter()
        .map(|archive| match compress {
            true => layout.blob(&format!("{TAR}+gzip"), &gzip(archive)),
            false => layout.blob(TAR, archive),
        })
        .collect();
    layout.index(&[layout.image_of(&layers, &diff_ids, "amd64")]);
    store.store.import_oci_layout(layout.path(), name).unwrap()
}

fn save(store: &Store, names: &[&str]) -> Vec<u8> {
    let mut archive = Vec::new();
    store.store.save(names, &mut archive).unwrap();
    archive
}

/// A reader that gives a few bytes at a time, as pipes may.
struct Trickle<'a>(&'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let length = into.len().min(7000);
        self.0.read(&mut into[..length])
    }
}

fn load(store: &Store, archive: &[u8]) -> Vec<Loaded> {
    store.store.load(Trickle(archive)).unwrap()
}

/// The message with which an archive is refused; nothing of it may be left.
fn refuse(archive: &[u8]) -> String {
    let store = Store::new();
    let error = store.store.load(archive).unwrap_err().to_string();
    assert_eq!(store.files(), [""; 0], "after: {error}");
    error
}

fn is_sound(image: &Image) {
    assert_eq!(content(&mut open_layer(image, 0), "file"), b"one");
    assert_eq!(content(&mut open_layer(image, 1), "file"), b"two");
}

#[test]
fn what_is_saved_is_loaded_as_it_was() {
    for compress in [false, true] {
        let from = Store::new();
        let image = import(&from, "docker.io/library/a:1", compress);
        from.store
            .tag("a:1", &"localhost:5000/b".parse().unwrap())
            .unwrap();
        let archive = save(&from, &["a:1", "localhost:5000/b", &image.id]);
        let to = Store::new();
        let loaded = load(&to, &archive);
        assert_eq!(loaded.len(), 1);
        let same = &loaded[0].image;
        assert_eq!(
            (&same.id, &same.manifest_digest),
            (&image.id, &image.manifest_digest)
        );
        assert_eq!(
            loaded[0].references,
            ["docker.io/library/a:1", "localhost:5000/b:latest"]
        );
        assert_eq!(same.references, loaded[0].references);
        is_sound(same);
        assert_eq!(
            save(&to, &["a:1", "localhost:5000/b"]),
            save(&from, &["a:1", "localhost:5000/b"])
        );
        // A second time nothing changes.
        assert_eq!(load(&to, &archive), loaded);
        assert!(to.store.check().unwrap().problems.is_empty());
    }
}

#[test]
fn how_far_each_layer_of_an_archive_is_is_told_unless_it_is_there() {
    for compress in [false, true] {
        let from = Store::new();
        import(&from, "a", compress);
        let archive = save(&from, &["a"]);
        let to = Store::new();
        let mut layers = Vec::<(String, Vec<_>)>::new();
        let mut tell = |told: LayerProgress<'_>| {
            if layers.last().is_none_or(|(layer, _)| layer != told.layer) {
                layers.push((told.layer.to_owned(), Vec::new()));
            }
            let (_, of_it) = layers.last_mut().unwrap();
            of_it.push((told.read, told.size, told.stored));
        };
        to.store.load_with(Trickle(&archive), None, &mut tell).unwrap();
        assert_eq!(layers.len(), 2, "{layers:?}");
        for (layer, told) in &layers {
            assert!(format!("sha256:{layer}").parse::<Digest>().is_ok(), "{layer}");
            assert!(told.is_sorted(), "{told:?}");
            let (read, size, stored) = told[told.len() - 1];
            assert!(stored && read == size && size > 0, "{told:?}");
            assert_eq!(told.iter().filter(|(_, _, stored)| *stored).count(), 1);
        }
        let mut again = Vec::new();
        let mut tell = |told: LayerProgress<'_>| again.push(told.layer.to_owned());
        to.store.load_with(Trickle(&archive), None, &mut tell).unwrap();
        assert_eq!(again, [""; 0], "they are there");
    }
}

#[test]
fn of_an_archive_for_several_platforms_the_wanted_ones_are_loaded() {
    let layout = Layout::new();
    let image = |text: &str, architecture: &str| {
        let archive = layer(text);
        let image = layout.image_of(
            &[layout.blob(TAR, &archive)],
            &[Digest::of(&archive)],
            architecture,
        );
        with_platform(image, "linux", architecture)
    };
    let (amd, arm) = (image("amd", "amd64"), image("arm", "arm64"));
    let index = layout.document(
        "application/vnd.oci.image.index.v1+json",
        &json!({ "schemaVersion": 2, "manifests": [amd, arm] }),
    );
    layout.index(&[with_name(index, "h:1/several:1")]);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_dir_all(".", layout.path()).unwrap();
    let archive = archive.into_inner().unwrap();
    let loaded = |wanted: Option<&WantedPlatform<'_>>| {
        let loaded = Store::new()
            .store
            .load_with(archive.as_slice(), wanted, &mut |_| {});
        let images = loaded.unwrap().into_iter();
        images
            .map(|loaded| (loaded.image.config.architecture().to_string(), loaded.references))
            .collect::<Vec<_>>()
    };
    let named = |architecture: &str| vec![(architecture.to_owned(), vec!["h:1/several:1".to_owned()])];
    let of = |wanted: &'static str| {
        move |platform: &image_store::Platform| platform.architecture().to_string() == wanted
    };
    assert_eq!(loaded(None), named("amd64"), "this machine's");
    assert_eq!(loaded(Some(&of("amd64"))), named("amd64"));
    assert_eq!(loaded(Some(&of("arm64"))), named("arm64"));
    assert_eq!(loaded(Some(&of("s390x"))), []);
}

#[test]
fn a_repository_is_saved_with_all_its_tags_and_an_identifier_without_a_name() {
    let store = Store::new();
    let one = import(&store, "a:1", false);
    store.store.tag("a:1", &"a:2".parse().unwrap()).unwrap();
    let loaded = load(&Store::new(), &save(&store, &["a"]));
    assert_eq!(loaded[0].references, ["localhost/a:1", "localhost/a:2"]);
    let loaded = load(&Store::new(), &save(&store, &[&one.id]));
    assert_eq!(loaded[0].references, [""; 0]);
    let error = store
        .store
        .save(&["nothing"], Vec::new())
        .unwrap_err()
        .to_string();
    assert_eq!(error, "No such image: nothing:latest");
}

#[test]
fn compressed_archives_are_loaded() {
    let store = Store::new();
    let image = import(&store, "a", true);
    let archive = save(&store, &["a"]);
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 3);
    std::io::Write::write_all(&mut xz, &archive).unwrap();
    for compressed in [
        gzip(&archive),
        zstd::encode_all(archive.as_slice(), 1).unwrap(),
        xz.finish().unwrap(),
    ] {
        assert_eq!(load(&Store::new(), &compressed)[0].image.id, image.id);
    }
}

/// Runs skopeo; false, said as SKIPPED, where it is not installed.
fn skopeo(arguments: &[&str]) -> bool {
    let output = match Command::new("skopeo")
        .args(["--insecure-policy"])
        .args(arguments)
        .output()
    {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: skopeo is not installed");
            return false;
        }
        output => output.unwrap(),
    };
    assert!(
        output.status.success(),
        "skopeo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    true
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn skopeo_reads_what_is_saved_in_both_forms() {
    let store = Store::new();
    let image = import(&store, "docker.io/library/a:1", true);
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("saved.tar");
    std::fs::write(&archive, save(&store, &["a:1"])).unwrap();
    for source in ["docker-archive", "oci-archive"] {
        let target = dir.path().join(source);
        let source = format!("{source}:{}", text(&archive));
        if !skopeo(&["copy", &source, &format!("oci:{}:b", text(&target))]) {
            return;
        }
        let other = Store::new();
        let copied = other.store.import_oci_layout(&target, "b").unwrap();
        assert_eq!(copied.layers.len(), 2);
        assert_eq!(copied.layers[0].diff_id, image.layers[0].diff_id);
        is_sound(&copied);
    }
}

#[test]
fn archives_of_skopeo_are_loaded() {
    let layout = Layout::new();
    layout.index(&[with_name(layout.image(&[layer("one"), layer("two")]), "test")]);
    let source = format!("oci:{}:test", text(layout.path()));
    let dir = tempfile::tempdir().unwrap();
    for kind in ["docker-archive", "oci-archive"] {
        let archive = dir.path().join(kind);
        let target = format!("{kind}:{}:docker.io/library/a:1", text(&archive));
        if !skopeo(&["copy", &source, &target]) {
            return;
        }
        let loaded = load(&Store::new(), &std::fs::read(&archive).unwrap());
        assert_eq!(loaded[0].references, ["docker.io/library/a:1"], "{kind}");
        assert_eq!(loaded[0].image.layers.len(), 2);
    }
}

/// An archive as Docker before 25 wrote it.
fn old_archive(layers: &[&str], change: impl FnOnce(&mut Value), omit: &str) -> Vec<u8> {
    let archives: Vec<Vec<u8>> = layers.iter().map(|text| layer(text)).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z",
        "config": { "Cmd": ["sh"], "Env": null, "Healthcheck": { "Test": ["NONE"] } },
        "rootfs": { "type": "layers", "diff_ids": archives.iter().map(|it| Digest::of(it)).collect::<Vec<_>>() },
    })
    .to_string();
    let config_name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let mut manifest = json!([{
        "Config": config_name,
        "RepoTags": ["old:1", "host.example:5000/old:2"],
        "Layers": (0..layers.len()).map(|n| format!("layer{n}/layer.tar")).collect::<Vec<_>>(),
    }]);
    change(&mut manifest);
    let mut tar = Tar::new();
    for (n, archive) in archives.iter().enumerate() {
        let name = format!("layer{n}/layer.tar");
        tar = tar
            .dir(&format!("layer{n}/"))
            .file(&format!("layer{n}/VERSION"), b"1.0")
            .file(&format!("layer{n}/json"), b"{}");
        let first = archives.iter().position(|other| other == archive).unwrap();
        if name == omit {
            continue;
        }
        tar = match first == n {
            true => tar.file(&name, archive),
            // As Docker writes a layer that occurs twice.
            false => tar.symlink(&name, &format!("../layer{first}/layer.tar")),
        };
    }
    if omit != "config" {
        // Docker's writer of long ago has the configuration in the middle, its readers must not rely on order.
        tar = tar
            .pax(&[("path", config_name.as_bytes())])
            .file("cut", config.as_bytes());
    }
    if omit != "manifest.json" {
        tar = tar.file("manifest.json", manifest.to_string().as_bytes());
    }
    tar.file("repositories", b"{}").finish()
}

#[test]
fn archives_of_older_dockers_are_loaded() {
    let store = Store::new();
    let loaded = load(&store, &old_archive(&["one", "two", "one"], |_| (), ""));
    assert_eq!(
        loaded[0].references,
        ["docker.io/library/old:1", "host.example:5000/old:2"]
    );
    let image = &loaded[0].image;
    assert_eq!(image.layers.len(), 3);
    assert_eq!(image.layers[0], image.layers[2]);
    is_sound(image);
    let raw = store.store.raw_config(image).unwrap();
    assert!(
        String::from_utf8(raw).unwrap().contains("Healthcheck"),
        "the configuration is kept as it came"
    );
    assert!(store.store.check().unwrap().problems.is_empty());
    // Its layers are kept compressed, under a manifest that was made for them.
    let blobs = store.store.image_blobs(image).unwrap();
    assert!(blobs[0].media_type.ends_with("tar+gzip"));
    let again = load(&Store::new(), &save(&store, &["old:1"]));
    assert_eq!(again[0].image.manifest_digest, image.manifest_digest);
    assert_eq!(
        load(&store, &old_archive(&["one", "two", "one"], |_| (), ""))[0].image,
        *image
    );
}

#[test]
fn hard_links_between_layers_and_null_names_are_understood() {
    let archive = layer("one");
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&archive), Digest::of(&archive)] },
    })
    .to_string();
    let manifest =
        json!([{ "Config": "c.json", "RepoTags": null, "Layers": ["a/layer.tar", "b/layer.tar"] }]);
    let tar = Tar::new()
        .file("manifest.json", manifest.to_string().as_bytes())
        .file("a/layer.tar", &archive)
        .hard_link("b/layer.tar", "a/layer.tar")
        .file("./c.json", config.as_bytes());
    let loaded = load(&Store::new(), &tar.finish());
    assert_eq!((loaded[0].references.len(), loaded[0].image.layers.len()), (0, 2));
}

#[test]
fn what_is_missing_or_wrong_in_an_archive_is_named() {
    let missing = |omit: &str| refuse(&old_archive(&["one", "two"], |_| (), omit));
    assert!(missing("layer1/layer.tar").contains("manifest.json needs layer1/layer.tar, which is missing"));
    assert!(missing("config").contains(".json, which is missing"));
    assert!(missing("manifest.json").contains("before 1.10"));
    assert!(refuse(&Tar::new().file("a", b"b").finish()).contains("the archive holds no images"));
    assert!(refuse(b"nonsense").contains("cannot read the archive"));
    let swapped = |manifest: &mut Value| {
        manifest[0]["Layers"] = json!(["layer1/layer.tar", "layer0/layer.tar"]);
    };
    let message = refuse(&old_archive(&["one", "two"], swapped, ""));
    assert!(message.contains("but the configuration says"), "{message}");
    let fewer = |manifest: &mut Value| manifest[0]["Layers"] = json!(["layer0/layer.tar"]);
    assert!(
        refuse(&old_archive(&["one", "two"], fewer, "")).contains("has 1 layers, the configuration has 2")
    );
    let escape = |manifest: &mut Value| manifest[0]["Config"] = json!("../../etc/passwd");
    assert!(refuse(&old_archive(&["one"], escape, "")).contains("needs ../../etc/passwd, which is missing"));
    let names = |manifest: &mut Value| manifest[0]["RepoTags"] = json!(["upper/CASE"]);
    assert!(refuse(&old_archive(&["one"], names, "")).contains("invalid reference format"));
    let circle = Tar::new()
        .symlink("manifest.json", "index.json")
        .symlink("index.json", "manifest.json");
    assert!(refuse(&circle.finish()).contains("no images"));
}

#[test]
fn changed_blobs_of_an_archive_are_refused() {
    let store = Store::new();
    import(&store, "a", true);
    let archive = save(&store, &["a"]);
    let mut changed = 0;
    let mut offset = 0;
    while offset + 512 <= archive.len() {
        let header = Header::from_byte_slice(&archive[offset..offset + 512]);
        let Ok(size) = header.entry_size() else { break };
        let path = String::from_utf8_lossy(&header.path_bytes()).into_owned();
        if header.entry_type() == EntryType::Regular && path.starts_with("blobs/") {
            let mut damaged = archive.clone();
            damaged[offset + 512 + size as usize / 2] ^= 0x10;
            let message = refuse(&damaged);
            assert!(message.contains("damaged"), "{path}: {message}");
            changed += 1;
        }
        offset += 512 + (size as usize).next_multiple_of(512);
    }
    assert_eq!(changed, 4);
    for cut in [archive.len() / 3, archive.len() / 2] {
        refuse(&archive[..cut]);
    }
}

#[test]
fn a_root_file_system_becomes_an_image_of_one_layer() {
    let archive = Tar::new().dir("bin/").file("bin/sh", b"#!").finish();
    let mut config = ImageConfiguration::default();
    config.set_created(Some("2026-01-01T00:00:00Z".into()));
    let zstd = zstd::encode_all(archive.as_slice(), 1).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    std::io::Write::write_all(&mut bzip2, &archive).unwrap();
    let reference: Reference = "imported:1".parse().unwrap();
    let store = Store::new();
    let mut ids = Vec::new();
    for bytes in [archive.clone(), gzip(&archive), zstd, bzip2.finish().unwrap()] {
        let image = store
            .store
            .import(Trickle(&bytes), Some(&reference), config.clone())
            .unwrap();
        assert_eq!(image.references, ["localhost/imported:1"]);
        assert_eq!(image.layers[0].diff_id, Digest::of(&archive).to_string());
        assert_eq!(content(&mut open_layer(&image, 0), "bin/sh"), b"#!");
        ids.push(image.id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "one archive is one image, however it is compressed");
    let error = store
        .store
        .import(&b"no archive at all"[..], None, config)
        .unwrap_err()
        .to_string();
    assert!(error.contains("of the archive"), "{error}");
    assert!(store.store.check().unwrap().problems.is_empty());
}
