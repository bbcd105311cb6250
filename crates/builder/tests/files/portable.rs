//! Caches that leave their machine: what was built in one place is not built again in another.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use builder::{
    BuildRequest, BuiltImage, CacheArchive, CacheExport, CacheImport, CacheManifest, CacheMode, Event,
    LayerFeed, LayerSource, PortableCache,
};
use image_store::{BlobDescriptor, ImageStore};
use tar_stream::{Entry, EntryKind, Reader, Writer};

use crate::solve::{Place, STEPS, context};

/// Two stages that share nothing, of which the image has one file each.
const STAGES: &str = "FROM base AS tools\nRUN make /tool\nRUN make /other\nFROM scratch\nCOPY --from=tools /tool /\nRUN make /image\n";

fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut reader = Reader::new(archive);
    let mut files = BTreeMap::new();
    while let Some(entry) = reader.next().unwrap() {
        let mut content = Vec::new();
        reader.content(&entry).read_to_end(&mut content).unwrap();
        if entry.kind == EntryKind::Regular {
            files.insert(String::from_utf8(entry.path).unwrap(), content);
        }
    }
    files
}

fn archive(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, content) in files {
        let mut entry = Entry::new(name.as_str(), EntryKind::Regular);
        entry.size = content.len() as u64;
        writer.begin(&entry).unwrap();
        writer.write(content).unwrap();
    }
    writer.finish().unwrap()
}

impl Place {
    /// The cache of a build, as the archive of a layout.
    fn export(&self, built: &BuiltImage, mode: CacheMode) -> Vec<u8> {
        let mut bytes = Vec::new();
        let export = CacheExport::of(&self.host.store, &built.trail, mode).unwrap();
        export.save(&self.host.store, &mut bytes).unwrap();
        bytes
    }

    fn with_cache(&self, text: &str, archive: &[u8]) -> BuildRequest {
        let archive = CacheArchive::read(archive, self.folder.path()).unwrap();
        let mut request = self.request(text, &context());
        request.imports = archive.imports().into_iter().map(Result::unwrap).collect();
        request
    }

    /// The image, how many steps came from a cache, and what was told beside the steps.
    async fn built(&self, request: BuildRequest) -> (BuiltImage, usize, String) {
        let (built, events) = self.run_all(request).await;
        let cached = events.iter().filter(|event| **event == Event::Cached).count();
        let output = events.iter().filter_map(|event| match event {
            Event::Output { bytes, .. } => Some(String::from_utf8_lossy(bytes)),
            _ => None,
        });
        (built.unwrap(), cached, output.collect())
    }
}

#[tokio::test]
async fn another_machine_takes_every_step_from_the_cache_and_makes_the_same_image() {
    let (here, there) = (Place::new(), Place::new());
    let (built, ..) = here.built(here.request(STEPS, &context())).await;
    let cache = here.export(&built, CacheMode::Min);
    let (again, cached, _) = there.built(there.with_cache(STEPS, &cache)).await;
    assert_eq!((cached, there.commands()), (5, 0));
    assert_eq!(again.image.manifest_digest, built.image.manifest_digest);
    // What came is the other machine's own by now, and it can hand it on.
    let (last, cached) = there.build(STEPS, &context()).await;
    assert_eq!((cached, last.id), (5, built.image.id.clone()));
    assert_eq!(there.export(&again, CacheMode::Min), cache);
}

#[tokio::test]
async fn the_modes_are_the_images_steps_and_all() {
    let here = Place::new();
    let (built, ..) = here.built(here.request(STAGES, &context())).await;
    for (mode, expected) in [(CacheMode::Min, (2, 2)), (CacheMode::Max, (5, 0))] {
        let cache = here.export(&built, mode);
        let there = Place::new();
        let (again, cached, _) = there.built(there.with_cache(STAGES, &cache)).await;
        assert_eq!((cached, there.commands()), expected, "{mode:?}");
        assert_eq!(again.image.id, built.image.id);
    }
}

#[tokio::test]
async fn without_the_cache_nothing_of_another_is_taken() {
    let (here, there) = (Place::new(), Place::new());
    let (built, ..) = here.built(here.request(STEPS, &context())).await;
    let mut request = there.with_cache(STEPS, &here.export(&built, CacheMode::Max));
    request.no_cache = true;
    let (_, cached, _) = there.built(request).await;
    assert_eq!((cached, there.commands()), (0, 1));
}

#[tokio::test]
async fn a_damaged_layer_costs_its_step_and_no_more() {
    let (here, there) = (Place::new(), Place::new());
    let (built, ..) = here.built(here.request(STEPS, &context())).await;
    let export = CacheExport::of(&here.host.store, &built.trail, CacheMode::Min).unwrap();
    let mut all = files(&here.export(&built, CacheMode::Min));
    // The layer of RUN is another one under its name, and that of COPY is missing.
    let path = |layer: &BlobDescriptor| format!("blobs/sha256/{}", layer.digest.hex());
    let other = all[&path(&export.layers[0])].clone();
    all.insert(path(&export.layers[2]), other);
    all.remove(&path(&export.layers[4]));
    let (again, cached, told) = there.built(there.with_cache(STEPS, &archive(&all))).await;
    assert_eq!((cached, there.commands()), (3, 1), "{told}");
    assert_eq!(told.matches("it cannot be used").count(), 2, "{told}");
    assert_eq!(again.image.layers.len(), built.image.layers.len());
}

#[tokio::test]
async fn an_image_can_carry_its_cache() {
    let (here, there) = (Place::new(), Place::new());
    let mut request = here.request(STEPS, &context());
    request.inline_cache = true;
    let (built, ..) = here.built(request).await;
    let store = &here.host.store;
    let manifest = CacheManifest::parse(&store.manifest(&built.image).unwrap().bytes).unwrap();
    let config = store.raw_config(&built.image).unwrap();
    let cache = PortableCache::parse(&manifest.layers, &config).unwrap();
    assert_eq!(cache.len(), 5);
    let opened = Arc::new(Opened {
        store: store.clone(),
        layers: Mutex::default(),
    });
    let mut request = there.request("FROM base\nCOPY a /x/\n", &context());
    request.imports = vec![CacheImport::new("image".into(), cache, opened.clone())];
    // The trigger is in it, too.
    let (_, cached, _) = there.built(request).await;
    assert_eq!(cached, 2);
    assert_eq!(
        opened.layers.lock().unwrap().len(),
        2,
        "no more is fetched than was needed"
    );
}

/// The layers that are read of another place.
#[derive(Debug)]
struct Opened {
    store: ImageStore,
    layers: Mutex<Vec<BlobDescriptor>>,
}

impl LayerSource for Opened {
    fn open(&self, layer: &BlobDescriptor) -> LayerFeed {
        self.layers.lock().unwrap().push(layer.clone());
        LayerFeed::there(self.store.open_blob(&layer.digest).unwrap())
    }
}

#[test]
fn an_archive_of_caches_leaves_what_follows_it() {
    let folder = tempfile::tempdir().unwrap();
    let name = || "0/index.json".to_owned();
    let cache = archive(&BTreeMap::from([(name(), b"{}".to_vec())]));
    let mut input = io::Cursor::new([cache.as_slice(), b"the context"].concat());
    let read = CacheArchive::read(&mut input, folder.path()).unwrap();
    let mut rest = String::new();
    input.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "the context");
    let told: Vec<String> = read.imports().into_iter().map(Result::unwrap_err).collect();
    assert!(
        told[0].starts_with("the build cache 0 cannot be used"),
        "{told:?}"
    );
    let many = (0..40).map(|number| (format!("{number}/index.json"), Vec::new()));
    assert!(CacheArchive::read(archive(&many.collect()).as_slice(), folder.path()).is_err());
    assert!(
        CacheArchive::read(&cache[..cache.len() - 512], folder.path()).is_err(),
        "it was cut"
    );
}
