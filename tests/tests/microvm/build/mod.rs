//! Building images, through the API: a corpus of Dockerfiles (`corpus/`), each with what `buildah` makes of the same, the cache, and
//! all that is refused.
//!
//! An entry of the corpus is a folder: a `Dockerfile`, the files of its context, and beside them, in no context:
//! - `context.sh`: run in the context, for what a checkout cannot hold (modes, links, odd names, archives).
//! - `options`: of the build, a line each: `build-arg NAME=VALUE`, `label NAME=VALUE`, `target STAGE`, `secret ID=TEXT`.
//! - `Dockerfile.first`: a build before this one. The build argument `FIRST` is the name of its image.
//! - `buildah`: `unsupported: WHY`, or lines `differs: ITEM WHY`; `*` at the end of an item stands for anything.
//! - `expected`: what is expected where buildah is no judge, as [`listing::Listing`] tells it: all that differs from the base image, or
//!   for items that differ just these. `base: NAME` in its first line is another base image than busybox, `scratch` for none.
//!
//! `HULL_CORPUS=copy-` in the environment lets only the entries be built whose names begin so.

mod api;
mod bad_contexts;
mod buildah;
mod cache;
mod comparison;
mod context;
mod entries;
mod errors;
mod listing;
mod sparse;
mod ssh;
mod stages;
mod survival;
mod workers;
