//! Stages made of real layers, and what is in a tree, as text.

use std::io::Read;
use std::path::Path;

use anyhow::Result;
use builder::{
    Context, ContextAttributes, ContextBuilder, ContextLimits, CopyError, CopyOptions, CopySummary, FileTree,
    Layer, LayerTree, Node, NodeKind, Source, Times, Timestamp, What, copy,
};
use image_store::{Addition, Image, ImageStore};
use serde_json::json;
use tar_stream::{Entry, EntryKind, Writer};
use tempfile::TempDir;

pub(crate) const NOW: Timestamp = Timestamp {
    seconds: 1_700_000_000,
    nanoseconds: 0,
};

/// A store, and the stage that is built in it.
pub(crate) struct Stage {
    pub(crate) folder: TempDir,
    store: ImageStore,
    image: Option<Image>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&folder.path().join("store")).unwrap();
        Self {
            folder,
            store,
            image: None,
        }
    }

    pub(crate) fn of(layers: &[Vec<u8>]) -> Self {
        let mut stage = Self::new();
        layers.iter().for_each(|layer| stage.add(layer));
        stage
    }

    /// One more layer of this archive.
    pub(crate) fn add(&mut self, archive: &[u8]) {
        let config = json!({ "architecture": "amd64", "os": "linux" });
        let image = match &self.image {
            None => self.store.import(archive, None, config),
            Some(base) => self.store.append(base, archive, None, &Addition::default()),
        };
        self.image = Some(image.unwrap());
    }

    pub(crate) fn tree(&self) -> LayerTree {
        let layers = self.image.iter().flat_map(|image| &image.layers);
        let open =
            |layer: &image_store::Layer| Layer::open(layer.diff_id.parse().unwrap(), &layer.path).unwrap();
        LayerTree::new(layers.map(open).collect())
    }
}

/// An archive that is put together.
#[derive(Default)]
pub(crate) struct Archive(Vec<(Entry, Vec<u8>)>);

impl Archive {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn add(mut self, path: &str, kind: EntryKind, mode: u16, content: &[u8]) -> Self {
        let mut entry = Entry::new(path, kind);
        (entry.mode, entry.size) = (mode, content.len() as u64);
        entry.mtime.seconds = 1_000_000;
        self.0.push((entry, content.to_vec()));
        self
    }

    pub(crate) fn dir(self, path: &str, mode: u16) -> Self {
        self.add(path, EntryKind::Directory, mode, b"")
    }

    pub(crate) fn file(self, path: &str, content: &str) -> Self {
        self.add(path, EntryKind::Regular, 0o644, content.as_bytes())
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        self.add(path, EntryKind::Symlink, 0o777, b"")
            .with(|entry| entry.link = target.into())
    }

    pub(crate) fn hard(self, path: &str, target: &str) -> Self {
        self.add(path, EntryKind::HardLink, 0o644, b"")
            .with(|entry| entry.link = target.into())
    }

    pub(crate) fn kind(self, path: &str, kind: EntryKind) -> Self {
        self.add(path, kind, 0o644, b"")
    }

    /// Changes the last entry.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Entry)) -> Self {
        if let Some((entry, _)) = self.0.last_mut() {
            change(entry);
        }
        self
    }

    pub(crate) fn owner(self, uid: u32, gid: u32) -> Self {
        self.with(|entry| (entry.uid, entry.gid) = (uid, gid))
    }

    pub(crate) fn mode(self, mode: u16) -> Self {
        self.with(|entry| entry.mode = mode)
    }

    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (entry, content) in &self.0 {
            writer.begin(entry).unwrap();
            if entry.kind == EntryKind::Regular {
                writer.write(content).unwrap();
            }
        }
        writer.finish().unwrap()
    }

    pub(crate) fn context(&self) -> Context {
        let folder = tempfile::tempdir().unwrap();
        Context::from_tar(self.tar().as_slice(), folder.path(), ContextLimits::default()).unwrap()
    }
}

/// A context of one file.
pub(crate) fn one_file(name: &str, content: &[u8]) -> Context {
    let folder = tempfile::tempdir().unwrap();
    let mut context = ContextBuilder::new(folder.path(), ContextLimits::default()).unwrap();
    let attributes = ContextAttributes {
        mode: 0o644,
        ..ContextAttributes::default()
    };
    context.file(name.as_bytes(), attributes, &mut &*content).unwrap();
    context.finish().unwrap()
}

pub(crate) fn source<'a>(tree: &'a dyn FileTree, path: &str) -> Source<'a> {
    Source {
        tree,
        base: b"/".to_vec(),
        what: What::Path(path.into()),
        parents: false,
        unpack: false,
    }
}

pub(crate) fn to(destination: &str) -> CopyOptions<'static> {
    CopyOptions::to(destination.as_bytes(), Times::Kept { created: NOW })
}

/// The archive of the layer that a copy makes.
pub(crate) fn copied(
    stage: &dyn FileTree,
    sources: &[Source<'_>],
    options: &CopyOptions<'_>,
) -> Result<(CopySummary, Vec<u8>), CopyError> {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = Vec::new();
    let summary = copy(stage, sources, options, folder.path(), &mut archive)?;
    Ok((summary, archive))
}

/// What is in an archive: `KIND MODE UID:GID PATH[ -> TARGET][ = CONTENT]`.
pub(crate) fn entries(archive: &[u8]) -> Vec<String> {
    let mut reader = tar_stream::Reader::new(archive);
    let mut lines = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        let mut content = String::new();
        let kind = match entry.kind {
            EntryKind::Regular => {
                reader.content(&entry).read_to_string(&mut content).unwrap();
                content.insert_str(0, " = ");
                'f'
            }
            EntryKind::Directory => 'd',
            EntryKind::Symlink => 'l',
            EntryKind::HardLink => 'h',
            EntryKind::CharDevice(_) => 'c',
            EntryKind::BlockDevice(_) => 'b',
            EntryKind::Fifo => 'p',
        };
        if matches!(kind, 'l' | 'h') {
            content = format!(" -> {}", String::from_utf8_lossy(&entry.link));
        }
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let Entry { mode, uid, gid, .. } = entry;
        lines.push(format!("{kind} {mode:o} {uid}:{gid} {path}{content}"));
    }
    lines
}

/// The layer that a copy makes, as text.
pub(crate) fn layer(stage: &dyn FileTree, sources: &[Source<'_>], options: &CopyOptions<'_>) -> Vec<String> {
    entries(&copied(stage, sources, options).unwrap().1)
}

/// All files of a tree, as text, in order.
pub(crate) fn listing(tree: &dyn FileTree) -> Vec<String> {
    let mut lines = Vec::new();
    let root = tree.root().unwrap();
    list(tree, &root, "", &mut lines);
    lines
}

fn list(tree: &dyn FileTree, directory: &Node, path: &str, lines: &mut Vec<String>) {
    for name in tree.names(directory).unwrap() {
        let node = tree.child(directory, &name).unwrap().unwrap();
        let path = format!("{path}/{}", String::from_utf8_lossy(&name));
        let (kind, more) = match node.kind {
            NodeKind::Regular => ('f', format!(" = {}", content(tree, &node))),
            NodeKind::Directory => ('d', String::new()),
            NodeKind::Symlink => {
                let target = tree.link_target(&node).unwrap();
                ('l', format!(" -> {}", String::from_utf8_lossy(&target)))
            }
            NodeKind::Fifo => ('p', String::new()),
            _ => ('?', String::new()),
        };
        let at = &node.attributes;
        lines.push(format!("{kind} {:o} {}:{} {path}{more}", at.mode, at.uid, at.gid));
        if node.is_directory() {
            list(tree, &node, &path, lines);
        }
    }
}

pub(crate) fn content(tree: &dyn FileTree, node: &Node) -> String {
    let mut text = String::new();
    tree.open(node).unwrap().read_to_string(&mut text).unwrap();
    text
}

/// All files of a folder of the host, in the same words.
pub(crate) fn host_listing(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    list_host(folder, "", &mut lines);
    lines
}

fn list_host(folder: &Path, path: &str, lines: &mut Vec<String>) {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    names.sort();
    for name in names {
        let whole = folder.join(&name);
        let path = format!("{path}/{}", name.to_string_lossy());
        let metadata = whole.symlink_metadata().unwrap();
        let kind = metadata.file_type();
        let (letter, more) = if kind.is_dir() {
            ('d', String::new())
        } else if kind.is_symlink() {
            (
                'l',
                format!(" -> {}", std::fs::read_link(&whole).unwrap().display()),
            )
        } else if kind.is_fifo() {
            ('p', String::new())
        } else if kind.is_file() {
            (
                'f',
                format!(" = {}", String::from_utf8_lossy(&std::fs::read(&whole).unwrap())),
            )
        } else {
            ('?', String::new())
        };
        let mode = metadata.mode() & 0o7777;
        lines.push(format!(
            "{letter} {mode:o} {}:{} {path}{more}",
            metadata.uid(),
            metadata.gid()
        ));
        if kind.is_dir() {
            list_host(&whole, &path, lines);
        }
    }
}
