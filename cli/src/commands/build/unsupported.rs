//! What `docker build` and buildx take and hull does not: each is refused with what to do instead.

use anyhow::bail;

use super::options::{Arguments, Unsupported};

/// Refuses what the daemon cannot do, before anything is sent to it.
pub(super) fn check(arguments: &Arguments) -> anyhow::Result<()> {
    let Unsupported {
        build_context,
        provenance,
        sbom,
        squash,
    } = &arguments.unsupported;
    if *squash {
        bail!("hull cannot squash layers: copy the result into a stage of its own, with COPY --from");
    }
    if let Some(context) = build_context.first() {
        bail!(
            "hull cannot take a second build context ({context}): put its files into the context, \
             or copy from an image with COPY --from=IMAGE"
        );
    }
    for (option, value) in [("provenance", provenance), ("sbom", sbom)] {
        // What is not wanted is not made.
        if let Some(value) = value
            && !matches!(value.as_str(), "false" | "0")
        {
            bail!("hull makes no attestations: leave out --{option}={value}");
        }
    }
    if let Some(platforms) = &arguments.image.platform
        && platforms.contains(',')
    {
        bail!("hull builds for one platform at a time, not for {platforms}: build once for each");
    }
    Ok(())
}
