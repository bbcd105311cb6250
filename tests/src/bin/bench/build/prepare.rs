//! buildah with what it needs, in the root of the peers; and the image of Debian.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use system_tests::Hull;

use crate::peers::run;

/// The archive with the image, in the folder of the peers.
pub(super) const DEBIAN: &str = "debian-bookworm.oci.tar";

/// Adds to the root in `folder`, which [`peers::prepare`](crate::peers::prepare) made.
pub(crate) fn prepare(folder: &Path, hull: &Hull) -> Result<()> {
    let debian = hull.prefix().join(DEBIAN);
    ensure!(
        debian.exists(),
        "{} is missing: run 'make bench', which makes it",
        debian.display()
    );
    std::fs::copy(&debian, folder.join(DEBIAN)).context("copy the image of Debian")?;
    let script = r#"
        cd "$1/root"
        program=$(command -v buildah) || { echo "buildah is missing: run 'make bench', which installs it" >&2; exit 1; }
        for file in "$program" $(ldd "$program" | grep -o '/[^ ]*'); do
            test -e ".$file" || cp -L --parents "$file" .
        done
        ln -s "$program" buildah
        mkdir -p etc/containers var/tmp
        echo 'root:x:0:0:root:/:/bin/sh' > etc/passwd; echo 'root:x:0:' > etc/group
        # No image is signed, and none is pulled.
        echo '{ "default": [{ "type": "insecureAcceptAnything" }] }' > etc/containers/policy.json
        : > etc/containers/registries.conf
    "#;
    let mut command = Command::new("sh");
    command.args(["-euc", script, "buildah"]).arg(folder);
    run(&mut command).map(drop)
}
