//! What is built: Dockerfiles and their contexts, the same each time.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// The large context: so many folders, and files in each of them.
const FOLDERS: usize = 200;
const FILES_IN_FOLDER: usize = 100;

/// A Dockerfile, its context, and the file of it that changes.
pub(super) struct Recipe {
    /// Names its folder and its image.
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    dockerfile: &'static str,
    make: fn(&Path) -> Result<()>,
    changing: &'static str,
    /// Whether buildah also builds it in one layer.
    pub(super) in_one_layer: bool,
}

pub(super) const RECIPES: [Recipe; 3] = [
    Recipe {
        name: "small",
        what: "2 COPY, 4 RUN, ENV, WORKDIR",
        dockerfile: r#"FROM localhost/busybox
WORKDIR /srv
ENV GREETING=hello
COPY settings settings
RUN echo "$GREETING" > greeting
RUN cat settings/* > all
COPY source source
RUN sha256sum source/* > sums
RUN sha256sum -c sums > checked
CMD ["cat", "sums"]
"#,
        make: |folder| {
            write_files(&folder.join("settings"), 10)?;
            write_files(&folder.join("source"), 10)
        },
        changing: "source/0",
        in_one_layer: true,
    },
    Recipe {
        name: "stages",
        what: "two stages, the first on Debian: 2 COPY, 3 RUN",
        dockerfile: r#"FROM localhost/debian:bookworm AS made
WORKDIR /work
COPY source source
RUN cat source/* > all
RUN sort all > sorted

FROM localhost/busybox
ENV GREETING=hello
COPY --from=made /work/sorted /srv/
RUN sha256sum /srv/sorted > /srv/sum
CMD ["cat", "/srv/sum"]
"#,
        make: |folder| write_files(&folder.join("source"), 10),
        changing: "source/0",
        in_one_layer: true,
    },
    Recipe {
        name: "many",
        what: "COPY of 20,000 files in 200 folders, RUN",
        dockerfile: r#"FROM localhost/busybox
COPY files /files
RUN ls /files > /folders
CMD ["cat", "/folders"]
"#,
        make: |folder| {
            (0..FOLDERS).try_for_each(|number| {
                write_files(&folder.join("files").join(number.to_string()), FILES_IN_FOLDER)
            })
        },
        changing: "files/100/0",
        // It takes minutes where the processor is emulated.
        in_one_layer: false,
    },
];

impl Recipe {
    /// Makes the context in a new folder.
    pub(super) fn make(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        (self.make)(folder).with_context(|| format!("make the context {}", folder.display()))?;
        Ok(fs::write(folder.join("Dockerfile"), self.dockerfile)?)
    }

    /// Gives one file of the context a content that it did not have before.
    pub(super) fn change(&self, folder: &Path) -> Result<()> {
        let path = folder.join(self.changing);
        let opened = OpenOptions::new().append(true).open(&path);
        let changed = opened.and_then(|mut file| file.write_all(b"changed\n"));
        changed.with_context(|| format!("change {}", path.display()))
    }
}

/// Files of up to 2 KiB, each of its own content.
fn write_files(folder: &Path, count: usize) -> Result<()> {
    fs::create_dir_all(folder)?;
    let line = |number: usize| format!("file {number} in {}\n", folder.display());
    (0..count).try_for_each(|number| {
        Ok(fs::write(
            folder.join(number.to_string()),
            line(number).repeat(1 + number % 40),
        )?)
    })
}
